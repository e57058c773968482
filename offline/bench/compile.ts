/** What collecting compressed gradients costs beside a forward pass, and which part of it is gathering coordinates. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import * as z from "zod";
import { type CompileOptions, compileGradient } from "../compile/compile.ts";
import { atMost, type Figure } from "./figure.ts";
import { gpt2, resnet9 } from "./models.ts";

const THREADS = 2;
const R = 1024;

type Feeds = Record<string, ort.Tensor>;

interface Subject {
  name: string;
  model: Uint8Array;
  loss: CompileOptions["loss"];
  feeds: Feeds;
  target: ort.Tensor;
  batch: number;
  goal: number;
  /** Whether to compare with forming each example's whole gradient of a layer first. */
  whole: boolean;
}

function subjects(): Subject[] {
  const [batch, length, vocabulary] = [8, 128, 2048];
  const ids = BigInt64Array.from({ length: batch * length }, (_, at) => BigInt((at * 7919) % vocabulary));
  const images = 16;
  const pixels = Float32Array.from({ length: images * 3 * 32 * 32 }, (_, at) => Math.sin(at));
  return [
    {
      name: "GPT-2-like (d = 11 M, 128 tokens)",
      model: gpt2({ layers: 6, width: 384, heads: 6, vocabulary, length }),
      loss: "next-token",
      feeds: { input_ids: new ort.Tensor("int64", ids, [batch, length]) },
      target: new ort.Tensor("int64", ids, [batch, length]),
      batch,
      goal: 3.0,
      whole: true,
    },
    {
      name: "ResNet-9 (d = 6.6 M, 32 × 32)",
      model: resnet9(64),
      loss: "cross-entropy",
      feeds: { image: new ort.Tensor("float32", pixels, [images, 3, 32, 32]) },
      target: new ort.Tensor(
        "int64",
        BigInt64Array.from({ length: images }, (_, at) => BigInt(at % 10)),
        [images],
      ),
      batch: images,
      goal: 3.5,
      whole: false,
    },
  ];
}

/** The fastest of several runs of each session in milliseconds, taken in turn, so that what else the machine does falls on all alike. */
async function times(
  sessions: readonly { session: ort.InferenceSession; feeds: Feeds; outputs: string[] }[],
): Promise<number[]> {
  const best = sessions.map(() => Number.POSITIVE_INFINITY);
  for (let run = 0; run < 8; run++) {
    for (const [index, { session, feeds, outputs }] of sessions.entries()) {
      const start = performance.now();
      await session.run(feeds, outputs);
      best[index] = Math.min(best[index] ?? Number.NaN, performance.now() - start);
    }
  }
  return best;
}

const events = z.array(z.object({ name: z.string(), cat: z.string(), dur: z.number() }));

/** The share of a graph's kernel time in nodes that gather coordinates. */
async function gatherShare(graph: Uint8Array, feeds: Feeds, folder: string): Promise<number> {
  const session = await ort.InferenceSession.create(graph, {
    intraOpNumThreads: THREADS,
    enableProfiling: true,
    profileFilePrefix: join(folder, "profile"),
  });
  for (let run = 0; run < 3; run++) await session.run(feeds, ["loss", "gradient"]);
  session.endProfiling();
  const file =
    (await readdir(folder))
      .filter((name) => name.startsWith("profile"))
      .sort()
      .at(-1) ?? "";
  const kernels = events
    .parse(JSON.parse(await readFile(join(folder, file), "utf8")))
    .filter((event) => event.name.endsWith("_kernel_time"));
  await session.release();
  const total = kernels.reduce((sum, event) => sum + event.dur, 0);
  return kernels.reduce((sum, event) => sum + (event.name.startsWith("gradient of ") ? event.dur : 0), 0) / total;
}

export async function measure(): Promise<Figure[]> {
  const folder = await mkdtemp(join(tmpdir(), "influence-bench-"));
  const figures: Figure[] = [];
  try {
    for (const subject of subjects()) {
      const path = join(folder, "model.onnx");
      await writeFile(path, subject.model);
      const options = { intraOpNumThreads: THREADS };
      const forward = await ort.InferenceSession.create(subject.model, options);
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
        const [plain = Number.NaN, collecting = Number.NaN, whole] = await times(runs);
        for (const run of runs.slice(1)) await run.session.release();
        if (whole !== undefined) {
          const name = `${subject.name}: forming whole gradients first, r = ${perLayer} ÷ collecting`;
          figures.push(atMost(name, whole / collecting, "×"));
        }
        const goal = perLayer === R ? subject.goal : null;
        figures.push(
          atMost(`${subject.name}: collecting at r = ${perLayer} a layer ÷ forward`, collecting / plain, "×", goal),
        );
        if (perLayer !== R) continue;
        figures.push(atMost(`${subject.name}: forward pass, per example`, plain / subject.batch, "ms"));
        const share = await gatherShare(graph, feeds, folder);
        figures.push(atMost(`${subject.name}: share of gathering at r = ${perLayer}`, 100 * share, "%", 15));
      }
      await forward.release();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  return figures;
}
