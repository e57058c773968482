/** What collecting compressed gradients costs beside a forward pass, and which part of it is gathering coordinates. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import * as z from "zod";
import { compileGradient } from "../compile/compile.ts";
import { median } from "../evaluate/statistics.ts";
import { backwardToActivations, gathers, turnedForGathering } from "./activations.ts";
import { atMost, type Figure, quotient } from "./figure.ts";
import { peakOf } from "./peak.ts";
import { type Feeds, type Subject, subjects } from "./subjects.ts";

const THREADS = 2;
const R = 1024;

const WARM_UP = 2;
const ROUNDS = 11;

/** Milliseconds of each session's runs, round by round: they take turns, so that what else the machine does falls on all alike. */
async function times(
  sessions: readonly { session: ort.InferenceSession; feeds: Feeds; outputs: string[] }[],
): Promise<number[][]> {
  const taken = sessions.map(() => [] as number[]);
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    for (const [index, { session, feeds, outputs }] of sessions.entries()) {
      const start = performance.now();
      await session.run(feeds, outputs);
      if (round >= 0) taken[index]?.push(performance.now() - start);
    }
  }
  return taken;
}

const events = z.array(z.object({ name: z.string(), cat: z.string(), ts: z.number(), dur: z.number() }));

const PROFILED = 9;

/**
 * The shares of a graph's kernel time in nodes that gather coordinates, and in layouts that the runtime changes for them alone:
 * medians over runs, the first left out, which also allocates.
 */
async function gatherShares(graph: Uint8Array, feeds: Feeds, folder: string): Promise<[number, number]> {
  const optimised = join(folder, "optimised.onnx");
  const session = await ort.InferenceSession.create(graph, {
    intraOpNumThreads: THREADS,
    enableProfiling: true,
    profileFilePrefix: join(folder, "profile"),
    optimizedModelFilePath: optimised,
    // It warns that the file is for this machine alone.
    logSeverityLevel: 3,
  });
  for (let run = 0; run <= PROFILED; run++) await session.run(feeds, ["loss", "gradient"]);
  session.endProfiling();
  const file =
    (await readdir(folder))
      .filter((name) => name.startsWith("profile"))
      .sort()
      .at(-1) ?? "";
  const recorded = events.parse(JSON.parse(await readFile(join(folder, file), "utf8")));
  await session.release();
  const turns = await turnedForGathering(optimised);
  const kernels = recorded.flatMap(({ name, ...event }) =>
    name.endsWith("_kernel_time") ? [{ ...event, node: name.slice(0, -"_kernel_time".length) }] : [],
  );
  const total = (list: typeof kernels) => list.reduce((sum, event) => sum + event.dur, 0);
  const warm = recorded
    .filter((event) => event.name === "model_run")
    .sort((a, b) => a.ts - b.ts)
    .map(({ ts, dur }) => kernels.filter((event) => event.ts >= ts && event.ts < ts + dur))
    .slice(1);
  const share = (counts: (node: string) => boolean) =>
    median(warm.map((run) => total(run.filter(({ node }) => counts(node))) / total(run)));
  return [share(gathers), share((node) => turns.has(node))];
}

/**
 * What collecting takes beside the backward pass to activations, which it cannot do without: peak resident memory (VmHWM) of
 * processes that load one graph from its file and run the same batch, and the part of collecting's time that the other does not need.
 */
async function beside(subject: Subject, graph: Uint8Array, folder: string): Promise<Figure[]> {
  const [collecting, backward] = [join(folder, "gradient.onnx"), join(folder, "backward.onnx")];
  await writeFile(collecting, graph);
  await writeFile(backward, await backwardToActivations(collecting));
  const feeds = { ...subject.feeds, target: subject.target };
  const runs = await Promise.all(
    [
      { path: collecting, outputs: ["loss", "gradient"] },
      { path: backward, outputs: ["loss", "cotangents"] },
    ].map(async ({ path, outputs }) => ({
      session: await ort.InferenceSession.create(path, { intraOpNumThreads: THREADS }),
      feeds,
      outputs,
    })),
  );
  const [whole, needed] = await times(runs);
  for (const { session } of runs) await session.release();
  const most = await peakOf(subject.name, collecting, ["loss", "gradient"]);
  const least = await peakOf(subject.name, backward, ["loss", "cotangents"]);
  const peaks = `peak memory of collecting ÷ of the backward pass to activations (${Math.round(least)} MB)`;
  return [
    atMost(`${subject.name}: ${peaks}`, most / least, "×", 1.3),
    atMost(`${subject.name}: share of collecting's time beyond that pass`, 100 * (1 - quotient(needed, whole)), "%"),
  ];
}

export async function measure(): Promise<Figure[]> {
  const folder = await mkdtemp(join(tmpdir(), "influence-bench-"));
  const figures: Figure[] = [];
  try {
    for (const subject of subjects()) {
      const path = join(folder, "model.onnx");
      const model = subject.model();
      await writeFile(path, model);
      const options = { intraOpNumThreads: THREADS };
      const forward = await ort.InferenceSession.create(model, options);
      const feeds = { ...subject.feeds, target: subject.target };
      for (const perLayer of [64, R, 4096]) {
        const compileOptions = { loss: subject.loss, r: { perLayer }, compressor: "uniform", seed: 1 } as const;
        const { graph } = await compileGradient(path, compileOptions);
        const outputs = ["loss", "gradient"];
        const session = await ort.InferenceSession.create(graph, options);
        const runs = [
          { session: forward, feeds: subject.feeds, outputs: ["logits"] },
          { session, feeds, outputs },
        ];
        if (subject.whole) {
          const formed = await compileGradient(path, { ...compileOptions, plan: "whole" });
          runs.push({ session: await ort.InferenceSession.create(formed.graph, options), feeds, outputs });
        }
        const [plain = [], collecting, whole] = await times(runs);
        for (const run of runs.slice(1)) await run.session.release();
        if (whole !== undefined) {
          const name = `${subject.name}: forming whole gradients first, r = ${perLayer} ÷ collecting`;
          figures.push(atMost(name, quotient(whole, collecting), "×"));
        }
        const goal = perLayer === R ? subject.goal : null;
        figures.push(
          atMost(
            `${subject.name}: collecting at r = ${perLayer} a layer ÷ forward`,
            quotient(collecting, plain),
            "×",
            goal,
          ),
        );
        if (perLayer !== R) continue;
        figures.push(atMost(`${subject.name}: forward pass, per example`, median(plain) / subject.batch, "ms"));
        figures.push(...(await beside(subject, graph, folder)));
        const [share, turns] = await gatherShares(graph, feeds, folder);
        figures.push(
          atMost(`${subject.name}: share of gathering at r = ${perLayer}, of kernels' time`, 100 * share, "%", 15),
          atMost(`${subject.name}: share of layouts that onnxruntime changes for gathering alone`, 100 * turns, "%"),
        );
      }
      await forward.release();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  return figures;
}
