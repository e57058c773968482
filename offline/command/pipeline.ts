/** The order of the steps, and its only owner: compile → collect (or import) → fit → index → publish. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { FORMAT } from "../../src/core/manifest.ts";
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { type Compiled, compileStep } from "../compile/compiled.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { digestOf, digestOfColumns, openDatasets } from "../dataset/open-datasets.ts";
import { readFidelity } from "../evaluate/fidelity.ts";
import { BATCH_FILE, chooseBatch } from "../gradients/batch-size.ts";
import { collect, missingShards, readShards, shardCount } from "../gradients/collect.ts";
import { importedMask, importGradients, widthOf } from "../gradients/import.ts";
import { productDevice } from "../gradients/session.ts";
import type { ShardRows } from "../gradients/shard.ts";
import { type Damping, fitLayers, readChosen, readFit, settledDamping } from "../hessian/fit.ts";
import type { ProductDevice } from "../hessian/matrix.ts";
import { buildIndex, describeAnew } from "../index/build-index.ts";
import type { Bucket } from "../store/bucket.ts";
import { isPublished, publish, readManifest } from "../store/publish.ts";
import type { Config } from "./config.ts";
import type { Run } from "./run.ts";
import { beginStep, finishStep, reopenStep, type Settings, type Step } from "./step.ts";

/** The gradients of a run, wherever they came from. */
export interface Collected {
  step: Step;
  /** Null for imported gradients. */
  compiled: Compiled | null;
  dimension: number;
  layers: Layer[];
  mask: MaskBlock[];
  train: Dataset;
  queries: Dataset | null;
}

/** True when every split brings its own gradients. */
function isImport(config: Config): boolean {
  const splits = config.queries ? [config.train, config.queries] : [config.train];
  const given = splits.filter((split) => split.gradients !== undefined).length;
  if (given > 0 && given < splits.length)
    throw new Error("gradients: expected in every split or in none, got in one; set it for train and queries");
  return given > 0;
}

async function gradientSource(run: Run): Promise<Omit<Collected, "step"> & { settings: Settings }> {
  const { config } = run;
  if (!isImport(config)) {
    const compiled = await compileStep(run);
    const { dimension, layers, mask, graphSha256 } = compiled;
    const settings = { ...compiled.settings, graph: graphSha256, device: run.device };
    return { compiled, dimension, layers, mask, ...(await openDatasets(run, compiled)), settings };
  }
  const { train, queries } = await openDatasets(run, null);
  const width = widthOf(train.gradients!);
  if (queries && widthOf(queries.gradients!) !== width) {
    throw new Error(
      `${queries.gradients!.name}: expected ${width} numbers a row as in ${train.gradients!.name}, got ${widthOf(queries.gradients!)}`,
    );
  }
  const { layers, mask } = importedMask(config, width);
  const dimension = mask.reduce((sum, { r }) => sum + r, 0);
  const settings = {
    r: JSON.stringify(config.r ?? null),
    blocks: JSON.stringify(config.blocks ?? null),
    seed: config.seed,
  };
  return { compiled: null, dimension, layers, mask, train, queries, settings };
}

/**
 * Collect: shards of compressed gradients of the training set, and of the queries. A worker makes its part; the step is
 * finished by the one that finds no shard missing.
 */
export async function collectStep(run: Run): Promise<Collected> {
  const { config, worker, onNan } = run;
  const { settings, ...source } = await gradientSource(run);
  const { compiled, dimension, mask, train, queries } = source;
  const step = beginStep(
    run.folder,
    "collect",
    {
      ...settings,
      train: digestOf(run, config.train),
      queries: config.queries ? digestOf(run, config.queries) : null,
      batch: run.memory === undefined ? config.batch : `for ${run.memory} bytes`,
      shard: config.shard,
      onNan,
    },
    run.replace,
    // A batch chosen for a memory cap is a means too; one that the configuration names is not.
    existsSync(join(run.folder, "collect", BATCH_FILE)) ? ["device", "onNan", "batch"] : ["device", "onNan"],
  );
  if (step.finished) {
    run.progress.skipped("collect", "already done");
    return { ...source, step };
  }
  const splits = queries
    ? ([
        ["train", train],
        ["queries", queries],
      ] as const)
    : ([["train", train]] as const);
  for (const [, dataset] of splits) await dataset.checkIds();
  const total = splits.reduce((sum, [, { n }]) => sum + n, 0);
  const progress = run.progress.step("collect", Math.ceil(total / worker.of), "examples");
  const skipped: string[] = [];
  for (const [split, dataset] of splits) {
    const shardsBefore = split === "train" ? 0 : shardCount(train.n, config);
    const plan = { split, dimension, shard: config.shard, onNan, worker, shardsBefore };
    if (compiled) {
      const externalData = compiled.externalData.map((file) => join(compiled.step.folder, file));
      const graph = { graph: compiled.graph, externalData, device: run.device, threads: run.threads };
      const batch = run.memory === undefined ? config.batch : await chooseBatch(step.folder, train, graph, run.memory);
      const { logits } = compiled;
      skipped.push(...(await collect(step.folder, step.key, dataset, { ...plan, ...graph, batch, logits }, progress)));
    } else {
      skipped.push(
        ...(await importGradients(step.folder, step.key, dataset, dataset.gradients!, mask, plan, progress)),
      );
    }
  }
  progress.done(skipped.length > 0 ? `left out, not finite: ${skipped.join(", ")}` : undefined);
  const missing = splits.flatMap(([split, { n }]) => missingShards(step.folder, split, n, config));
  return { ...source, step: missing.length === 0 ? finishStep(step) : step };
}

/** The shards of a split of finished gradients. */
function shardsOf(run: Run, collected: Collected, split: "train" | "queries", n: number): Iterable<ShardRows> {
  const { step } = collected;
  if (!step.finished) {
    const missing = missingShards(step.folder, split, n, run.config);
    throw new Error(
      `${step.folder}: expected every shard, ${missing.length} are missing, the first ${missing[0]}; collect the other parts first`,
    );
  }
  return readShards(step.folder, split, step.key, n, run.config);
}

/** One block over all layers, of each member of an ensemble. */
function jointBlocks({ compiled, dimension }: Collected): { name: string; offset: number; r: number }[] {
  const members = compiled?.members ?? 1;
  const r = dimension / members;
  const name = (member: number) => (members > 1 ? `member ${member + 1}: all layers` : "all layers");
  return Array.from({ length: members }, (_, member) => ({ name: name(member), offset: member * r, r }));
}

/** Where a run's float64 products run. */
const productsOf = ({ device, threads }: Run): ProductDevice => ({
  device: productDevice(device),
  ...(threads === undefined ? {} : { threads }),
});

/** Fit: H̃, damping and inverse of each layer. */
export async function fitStep(run: Run, collected: Collected): Promise<Step> {
  const { config } = run;
  const { n } = collected.train;
  const shards = shardsOf(run, collected, "train", n);
  const damping = JSON.stringify(config.damping);
  const heldOut = config.damping === "held-out";
  const settings: Settings = { shards: collected.step.key, damping, hessian: config.hessian };
  const step = beginStep(run.folder, "fit", settings, true);
  if (step.finished) {
    run.progress.skipped("fit", "already done");
    return step;
  }
  const progress = run.progress.step("fit", n, "examples");
  const blocks =
    config.hessian === "joint"
      ? jointBlocks(collected)
      : collected.mask.map(({ layer, offset, r }) => ({ name: layer, offset, r }));
  const asking = heldOut && collected.queries ? shardsOf(run, collected, "queries", collected.queries.n) : null;
  const layers = await fitLayers(
    step.folder,
    blocks,
    collected.dimension,
    shards,
    config.damping,
    progress,
    asking,
    productsOf(run),
  );
  progress.done();
  const chosen = readChosen(step.folder);
  for (const { factor, objective } of chosen?.tried ?? []) {
    const mark = factor === chosen?.factor ? "  chosen" : "";
    const value = objective === null ? "no inverse" : objective.toExponential(3);
    run.progress.note(`         damping ${factor} × tr/n: ½ xᵀHx − gᵀx of held-out queries ${value}${mark}`);
  }
  for (const layer of layers) {
    const { name, r, rank, effectiveRank, condition, damping: lambda } = layer;
    run.progress.note(
      `         ${name}: r = ${r}, rank ${rank ?? "not counted"}, effective rank ${effectiveRank.toFixed(0)}, condition ${condition.toPrecision(3)}, damping ${lambda.toExponential(2)}`,
    );
  }
  return finishStep(step);
}

/** "default", "3 × trace", "0.01"; of one chosen on held-out examples, that it was. */
function describeDamping(damping: Damping, heldOut: boolean): string {
  const rule = typeof damping === "object" ? `${damping.factor} × ${damping.rule}` : String(damping);
  return heldOut ? `${rule}, held out` : rule;
}

/**
 * How the planes are made, where that leaves FORMAT as it is: said anew whenever the same rows get other planes, so that an index made as
 * before is made again.
 */
const PLANES = "mixed where it pays";

/** Index: preconditioned rows, planes, metadata, manifest. Returns the index's folder. */
export async function indexStep(run: Run, collected: Collected, fitted: Step): Promise<string> {
  const { config } = run;
  const { compiled, train, queries, dimension, layers, mask } = collected;
  const settled = settledDamping(config.damping, fitted.folder);
  const damping = JSON.stringify(settled);
  const fidelity = compiled ? readFidelity(run.folder, compiled.graphSha256, damping) : null;
  const settings: Settings = {
    fit: fitted.key,
    fidelity: JSON.stringify(fidelity),
    format: FORMAT,
    planes: PLANES,
    name: config.name,
    title: config.title,
    classes: JSON.stringify(config.classes ?? null),
    columns: await digestOfColumns(queries ? [train, queries] : [train]),
  };
  const described = {
    name: config.name,
    title: config.title,
    fidelity,
    ...(config.classes === undefined ? {} : { classes: config.classes }),
  };
  const known = reopenStep(run.folder, "index", settings, ["fidelity", "name", "title", "classes"]);
  const anew = known && describeAnew(known.folder, described);
  if (known && anew) {
    run.progress.skipped("index", `only its description changed, version ${anew.version}`);
    return finishStep(known).folder;
  }
  const step = beginStep(run.folder, "index", settings, true);
  if (step.finished) {
    run.progress.skipped("index", `already done, version ${readManifest(step.folder).version}`);
    return step.folder;
  }
  const progress = run.progress.step("index", train.n, "examples");
  const manifest = await buildIndex(
    step.folder,
    {
      ...described,
      compressor: {
        kind: config.compressor,
        seed: config.seed,
        ...(compiled?.calibrationExamples ? { calibrationExamples: compiled.calibrationExamples } : {}),
      },
      dampingRule: describeDamping(settled, config.damping === "held-out"),
      loss: compiled ? config.loss : "imported gradients",
      layers,
    },
    // A graph whose weights lie in other files cannot be handed out alone.
    {
      graph: compiled && compiled.externalData.length === 0 ? compiled.graph : null,
      mask,
      dimension,
      seed: config.seed,
      members: compiled?.members ?? 1,
    },
    readFit(fitted.folder),
    { dataset: train, shards: shardsOf(run, collected, "train", train.n) },
    queries ? { dataset: queries, shards: shardsOf(run, collected, "queries", queries.n) } : null,
    progress,
    productsOf(run),
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
  const collected = await collectStep(run);
  const fitted = await fitStep(run, collected);
  return indexStep(run, collected, fitted);
}
