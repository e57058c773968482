/** The order of the steps, and its only owner: compile → collect → fit → index → publish. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onnx } from "onnx-proto";
import * as z from "zod";
import type { Layer, MaskBlock } from "../src/core/mask.ts";
import type { Bucket } from "./bucket.ts";
import { buildIndex } from "./build-index.ts";
import { collect, readShards } from "./collect.ts";
import { compileGradient } from "./compile.ts";
import { type Config, configured } from "./config.ts";
import { type Dataset, openDataset } from "./dataset/dataset.ts";
import { fitLayers, readFit } from "./fit.ts";
import type { Progress } from "./progress.ts";
import { isPublished, publish, readManifest } from "./publish.ts";
import { beginStep, finishStep, type Settings, type Step } from "./step.ts";
import type { TensorSpec } from "./tensor-spec.ts";

/** A build under way: its settings, its folder, and how it tells of itself. */
export interface Run {
  config: Config;
  /** runs/<name> */
  folder: string;
  /** Make steps anew whose settings changed, rather than refuse. */
  replace: boolean;
  progress: Progress;
}

const tensorSpec = z.object({ name: z.string(), type: z.string(), shape: z.array(z.union([z.number(), z.string()])) });
const compiledSchema = z.object({
  graphSha256: z.string(),
  dimension: z.int(),
  layers: z.array(
    z.object({
      name: z.string(),
      d: z.int(),
      parameters: z.array(z.object({ name: z.string(), shape: z.array(z.int()) })),
    }),
  ),
  mask: z.array(z.object({ layer: z.string(), offset: z.int(), d: z.int(), kept: z.array(z.int()) })),
  inputs: z.array(tensorSpec),
  target: tensorSpec,
  outputs: z.array(z.string()),
  /** Extent of the last axis of the output that the loss reads, when the loss is a classification. */
  classes: z.int().nullable(),
});

/** What `compile` left in its folder. */
export interface Compiled {
  step: Step;
  /** The settings that it was compiled with. */
  settings: Settings;
  /** Path of gradient.onnx. */
  graph: string;
  graphSha256: string;
  dimension: number;
  layers: Layer[];
  mask: MaskBlock[];
  inputs: TensorSpec[];
  target: TensorSpec;
  logits: string | null;
  classes: number | null;
}

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");

/** The last extent of a graph output, null where the graph leaves it open. */
function lastExtent(graph: Uint8Array, output: string | undefined): number | null {
  const info = onnx.ModelProto.decode(graph).graph?.output?.find(({ name }) => name === output);
  const extent = info?.type?.tensorType?.shape?.dim?.at(-1)?.dimValue;
  return extent ? Number(extent) : null;
}

/** Compile: differentiate the model's graph and choose the kept coordinates. */
export async function compileStep(run: Run): Promise<Compiled> {
  const { config } = run;
  const model = configured(config, config.model);
  if (!existsSync(model))
    throw new Error(`no such model: ${model}; set \`model\` in the configuration to an ONNX file`);
  const settings: Settings = {
    model: sha256(readFileSync(model)),
    loss: config.loss,
    output: config.output ?? null,
    layers: config.layers?.join(" ") ?? null,
    r: JSON.stringify(config.r),
    compressor: config.compressor,
    seed: config.seed,
  };
  let step = beginStep(run.folder, "compile", settings, true);
  if (step.finished) run.progress.skipped("compile", "already done");
  else {
    const progress = run.progress.step("compile", 1, "graph");
    const compiled = await compileGradient(model, {
      loss: config.loss,
      r: config.r,
      compressor: config.compressor,
      seed: config.seed,
      ...(config.output === undefined ? {} : { output: config.output }),
      ...(config.layers === undefined ? {} : { layers: config.layers }),
    });
    writeFileSync(join(step.folder, "gradient.onnx"), compiled.graph);
    const record: z.infer<typeof compiledSchema> = {
      graphSha256: sha256(compiled.graph),
      dimension: compiled.dimension,
      layers: compiled.layers,
      mask: compiled.mask.map((block) => ({ ...block, kept: [...block.kept] })),
      inputs: compiled.inputs,
      target: compiled.target,
      outputs: compiled.outputs,
      classes:
        config.loss === "cross-entropy" ? lastExtent(compiled.graph, config.output ?? compiled.outputs[0]) : null,
    };
    writeFileSync(join(step.folder, "compiled.json"), `${JSON.stringify(record)}\n`);
    step = finishStep(step);
    progress.advance(1);
    const d = compiled.layers.reduce((sum, layer) => sum + layer.d, 0);
    progress.done(`${compiled.layers.length} layers, R = ${compiled.dimension} of d = ${d}`);
  }
  const record = compiledSchema.parse(JSON.parse(readFileSync(join(step.folder, "compiled.json"), "utf8")));
  const graph = join(step.folder, "gradient.onnx");
  const got = sha256(readFileSync(graph));
  if (got !== record.graphSha256) {
    throw new Error(
      `${graph}: expected sha256 ${record.graphSha256}, got ${got}; delete ${step.folder} and compile again`,
    );
  }
  const classification = config.loss === "cross-entropy";
  return {
    ...record,
    step,
    settings,
    graph,
    mask: record.mask.map((block) => ({ ...block, kept: Uint32Array.from(block.kept) })),
    logits: classification ? (config.output ?? record.outputs[0] ?? null) : null,
  };
}

export interface Collected {
  step: Step;
  train: Dataset;
  queries: Dataset | null;
}

/** Opens the configured datasets for a compiled model. */
export async function openDatasets(run: Run, compiled: Compiled): Promise<{ train: Dataset; queries: Dataset | null }> {
  const { config } = run;
  const scratch = join(run.folder, "scratch");
  const open = (split: Config["train"]) =>
    openDataset(config, split, compiled.inputs, compiled.target, compiled.classes, scratch);
  return { train: await open(config.train), queries: config.queries ? await open(config.queries) : null };
}

/** Collect: shards of compressed gradients of the training set, and of the queries. */
export async function collectStep(run: Run, compiled: Compiled): Promise<Collected> {
  const { config } = run;
  const { train, queries } = await openDatasets(run, compiled);
  const settings: Settings = {
    ...compiled.settings,
    graph: compiled.graphSha256,
    train: await train.digest(),
    queries: queries ? await queries.digest() : null,
    batch: config.batch,
    shard: config.shard,
  };
  const step = beginStep(run.folder, "collect", settings, run.replace);
  if (step.finished) {
    run.progress.skipped("collect", "already done");
    return { step, train, queries };
  }
  const total = train.n + (queries?.n ?? 0);
  const progress = run.progress.step("collect", total, "examples");
  const plan = {
    graph: compiled.graph,
    dimension: compiled.dimension,
    logits: compiled.logits,
    batch: config.batch,
    shard: config.shard,
  };
  await collect(step.folder, step.key, train, { ...plan, split: "train" }, progress);
  if (queries) await collect(step.folder, step.key, queries, { ...plan, split: "queries" }, progress);
  progress.done();
  return { step: finishStep(step), train, queries };
}

/** Fit: H̃, damping and inverse of each layer. */
export async function fitStep(run: Run, compiled: Compiled, collected: Collected): Promise<Step> {
  const { config } = run;
  const { n } = collected.train;
  const settings: Settings = { shards: collected.step.key, damping: config.damping };
  const step = beginStep(run.folder, "fit", settings, true);
  if (step.finished) {
    run.progress.skipped("fit", "already done");
    return step;
  }
  const progress = run.progress.step("fit", n, "examples");
  const blocks = compiled.mask.map(({ layer, offset, kept }) => ({ name: layer, offset, r: kept.length }));
  const shards = readShards(collected.step.folder, "train", collected.step.key, n, config);
  const layers = await fitLayers(step.folder, blocks, n, compiled.dimension, shards, config.damping, progress);
  progress.done(layers.map(({ name, r, damping }) => `${name} r = ${r}, λ = ${damping.toExponential(2)}`).join("; "));
  return finishStep(step);
}

/** Index: preconditioned rows, planes, metadata, manifest. Returns the index's folder. */
export async function indexStep(run: Run, compiled: Compiled, collected: Collected, fitted: Step): Promise<string> {
  const { config } = run;
  const settings: Settings = {
    fit: fitted.key,
    name: config.name,
    title: config.title,
    classes: JSON.stringify(config.classes ?? null),
    columns: sha256(JSON.stringify([await collected.train.columns(), (await collected.queries?.columns()) ?? null])),
  };
  const step = beginStep(run.folder, "index", settings, true);
  if (step.finished) {
    run.progress.skipped("index", `already done, version ${readManifest(step.folder).version}`);
    return step.folder;
  }
  const progress = run.progress.step("index", collected.train.n, "examples");
  const rows = (split: "train" | "queries", dataset: Dataset) => ({
    dataset,
    shards: readShards(collected.step.folder, split, collected.step.key, dataset.n, config),
  });
  const manifest = await buildIndex(
    step.folder,
    {
      name: config.name,
      title: config.title,
      compressor: { kind: config.compressor, seed: config.seed },
      dampingRule: String(config.damping),
      loss: config.loss,
      fidelity: null,
      classes: config.classes,
      layers: compiled.layers,
    },
    { graph: compiled.graph, mask: compiled.mask, dimension: compiled.dimension, seed: config.seed },
    readFit(fitted.folder),
    rows("train", collected.train),
    collected.queries ? rows("queries", collected.queries) : null,
    progress,
  );
  progress.done(`version ${manifest.version}`);
  return finishStep(step).folder;
}

/** Publish: upload what the bucket lacks, the pointer last. */
export async function publishStep(run: Run, index: string, bucket: Bucket): Promise<void> {
  if (await isPublished(index, bucket)) {
    run.progress.skipped("publish", `already in ${bucket.name}`);
    return;
  }
  const { files } = readManifest(index);
  const megabytes = Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
  const progress = run.progress.step("publish", Math.ceil(megabytes), "MB");
  const manifest = await publish(index, bucket, progress);
  progress.done(`${manifest.name} ${manifest.version} to ${bucket.name}`);
}

/** Everything up to the index's folder. */
export async function buildToIndex(run: Run): Promise<string> {
  const compiled = await compileStep(run);
  const collected = await collectStep(run, compiled);
  const fitted = await fitStep(run, compiled, collected);
  return indexStep(run, compiled, collected, fitted);
}
