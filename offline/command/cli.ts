#!/usr/bin/env node
/** The command line: `influence <step> CONFIG`. Results on standard output, progress and errors on standard error. */
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { compileStep } from "../compile/compiled.ts";
import { inspectModel } from "../compile/inspect.ts";
import { inspectReport } from "../compile/inspect-report.ts";
import { addEvaluate } from "../evaluate/command.ts";
import { verify } from "../evaluate/verify.ts";
import type { Worker } from "../gradients/collect.ts";
import { DEVICES, type Device } from "../gradients/session.ts";
import { workerFromEnvironment } from "../gradients/worker.ts";
import { queryFolder, type Row } from "../serve/query.ts";
import { addServe } from "../serve/serve-command.ts";
import { type BucketOptions, onBucket, withBucketOptions } from "../store/open-bucket.ts";
import { addPrune } from "../store/prune-command.ts";
import { byteCount, positiveInteger } from "./arguments.ts";
import { configSchema, readConfig } from "./config.ts";
import { fittedTo } from "./fitted.ts";
import { buildToIndex, collectStep, fitStep, publishStep } from "./pipeline.ts";
import { progressTo } from "./progress.ts";
import type { Run } from "./run.ts";
import { holdingRun } from "./step.ts";

interface RunOptions {
  out?: string;
  json?: boolean;
  replace?: boolean;
  device: Device;
  threads?: number;
  onNan: "fail" | "skip";
}

interface PublishOptions extends RunOptions, BucketOptions {
  /** Bytes that the index may hold when it is searched. */
  memory?: number;
}

function partOf(text: string): Worker {
  const [, index = 0, of = 0] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (index < 1 || index > of) throw new InvalidArgumentError(`expected i/N with 1 ≤ i ≤ N, such as 2/4, got ${text}.`);
  return { index: index - 1, of };
}

function runOf(configPath: string, options: RunOptions, worker: Worker = { index: 0, of: 1 }): Run {
  const config = readConfig(configPath);
  const output = options.json ? "json" : process.stderr.isTTY ? "terminal" : "lines";
  return {
    config,
    folder: resolve(options.out ?? join("runs", config.name)),
    replace: options.replace ?? false,
    progress: progressTo(output),
    device: options.device,
    threads: options.threads,
    onNan: options.onNan,
    worker,
  };
}

const program = new Command("influence")
  .description("Which training examples made a model say this? Builds, publishes and asks an influence index.")
  .showHelpAfterError("(run with --help for the options)");

/** A command over a configuration, with the options that every step shares. */
function stepCommand(name: string, description: string): Command {
  return program
    .command(name)
    .argument("<config>", "the build's configuration, a YAML file")
    .description(description)
    .option("--out <folder>", "the run's folder (default: runs/<name>)")
    .addOption(new Option("--device <device>", "where gradients are computed").choices(DEVICES).default("cpu"))
    .option("--threads <n>", "threads of the CPU (default: one a core)", positiveInteger)
    .addOption(
      new Option("--on-nan <policy>", "an example whose gradient is not finite")
        .choices(["fail", "skip"])
        .default("fail"),
    )
    .option("--replace", "make gradients anew when their settings changed, rather than refuse")
    .option("--json", "progress as JSON lines on standard error, the result as JSON on standard output");
}

/** Runs a step alone in its folder, and says where its result lies. */
function stepAction(work: (run: Run, options: PublishOptions) => Promise<Record<string, unknown>>) {
  return async (configPath: string, options: PublishOptions) => {
    const run = runOf(configPath, options);
    const result = await holdingRun(run.folder, "build", false, () => work(run, options));
    if (options.json) console.log(JSON.stringify({ folder: run.folder, ...result }));
  };
}

const publishing = stepAction(async (run, { memory, ...bucketOptions }) => {
  const index = await buildToIndex(memory === undefined ? run : await fittedTo(run, memory));
  await onBucket(bucketOptions, (bucket) => publishStep(run, index, bucket));
  return { index };
});
withBucketOptions(
  stepCommand("build", "every step in order, and publish the index").option(
    "--memory <size>",
    "such as 64MB: choose R so that the index is searched within it",
    byteCount,
  ),
).action(publishing);

stepCommand("compile", "differentiate the model and choose the kept coordinates").action(
  stepAction(async (run) => ({ graph: (await compileStep(run)).graph })),
);

stepCommand("collect", "write the compressed gradient of every example")
  .option("--memory <size>", "such as 4GB: choose the batch so that collecting stays within it", byteCount)
  .option(
    "--shard <i/N>",
    "make the i-th of N parts; the parts can run on several machines that share the folder",
    partOf,
  )
  .option(
    "--shards <N>",
    "number of parts, where the engine names only this one's number (Kubernetes)",
    positiveInteger,
  )
  .action(async (configPath: string, options: RunOptions & { shard?: Worker; shards?: number; memory?: number }) => {
    const worker = options.shard ?? workerFromEnvironment(process.env, options.shards);
    const run = { ...runOf(configPath, options, worker), memory: options.memory };
    if (run.config.model !== undefined) await holdingRun(run.folder, "build", worker.of > 1, () => compileStep(run));
    const part = worker.of > 1 ? `collect-${worker.index + 1}-of-${worker.of}` : "build";
    const collected = await holdingRun(run.folder, part, false, () => collectStep(run));
    if (options.json) console.log(JSON.stringify({ folder: collected.step.folder, finished: collected.step.finished }));
  });

stepCommand("fit", "Hessian, damping and inverse of each layer").action(
  stepAction(async (run) => ({ fit: (await fitStep(run, await collectStep(run))).folder })),
);

stepCommand("index", "precondition every training vector and write the index").action(
  stepAction(async (run) => ({ index: await buildToIndex(run) })),
);

withBucketOptions(stepCommand("publish", "upload the index; what is missing is built first")).action(publishing);

addPrune(program);

program
  .command("inspect")
  .argument("<model>", "an ONNX file")
  .description("what the compiler makes of a model: its layers, which are covered and how, what collecting will cost")
  .option("--output <name>", "the output that the loss reads (default: the first)")
  .option("--layers <pattern...>", 'name patterns of the layers to cover, "!" in front to leave out')
  .option("--per-layer <r>", "kept coordinates of each layer, for the cost", positiveInteger, 1024)
  .addOption(
    new Option("--compressor <kind>", "which coordinates are kept")
      .choices(configSchema.shape.compressor.unwrap().options)
      .default("eigenbasis"),
  )
  .option("--json", "the result as JSON")
  .action(async (model: string, options: Parameters<typeof inspectModel>[1] & { json?: boolean }) => {
    const { json, ...chosen } = options;
    const inspection = await inspectModel(model, chosen);
    console.log(json ? JSON.stringify(inspection) : inspectReport(inspection));
  });

const line = ({ id, influence, label, was, flipped }: Row) => {
  const mark = flipped ? `  label flipped, was ${was}` : "";
  return `  ${id.padEnd(14)} ${influence.toExponential(4).padStart(12)}  label ${label ?? "–"}${mark}`;
};

program
  .command("query")
  .argument("<index>", "an index's folder, for example runs/mnist/index")
  .argument("<id>", "a stored query, for example test-00008")
  .description("the most helpful and most harmful training examples for a stored query")
  .option("-k, --top-k <k>", "how many of each", positiveInteger, 10)
  .option("--json", "the result as JSON")
  .action(async (index: string, id: string, options: { topK: number; json?: boolean }) => {
    const { manifest, answer, helpful, harmful } = await queryFolder(resolve(index), id, options.topK);
    const { name, title, version, n } = manifest;
    if (options.json) {
      console.log(JSON.stringify({ helpful, harmful, exact: answer.exact, index: { name, version } }));
      return;
    }
    console.log(`${title}, ${id}: ${answer.exact ? "exact" : "approximate"} over ${n} training examples
most helpful (more weight on them lowers the query's loss)
${helpful.map(line).join("\n")}
most harmful (more weight on them raises it)
${harmful.map(line).join("\n")}`);
  });

stepCommand("verify", "compare compressed with exact influence on a sample of the training set")
  .option("--examples <n>", "training examples in the sample", positiveInteger, 2000)
  .option("--queries <m>", "queries", positiveInteger, 50)
  .action(async (configPath: string, options: RunOptions & { examples: number; queries: number }) => {
    const report = await verify(runOf(configPath, options), options.examples, options.queries);
    console.log(options.json ? JSON.stringify(report) : report.text);
  });

addEvaluate(program);
addServe(program);

/** One line for a person. A full disk is named as such: the system's own words do not say what becomes of the work. */
function explained(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && error.code === "ENOSPC") {
    return "the disk is full; make room and run the same command again: what is finished is kept, what was half-written is not read";
  }
  return error.message;
}

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`influence: ${explained(error)}\n`);
  process.exitCode = 1;
}
