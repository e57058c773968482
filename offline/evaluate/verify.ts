/**
 * Verify: can the compressed influence of this build be trusted? Compares it with exact influence on a sample of the training
 * set small enough to allow that, and with what another seed, another R and the product's other compressors would give. Each of them
 * is compiled and run as a build would do it.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { type Agreement, FILES, type Fidelity } from "../../src/core/manifest.ts";
import { sampleWithoutReplacement } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";
import { type Config, configSchema } from "../command/config.ts";
import type { StepProgress } from "../command/progress.ts";
import type { Run } from "../command/run.ts";
import { compileGradient } from "../compile/compile.ts";
import { type Compiled, compileOptions, compileStep, modelPath } from "../compile/compiled.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { openDatasets } from "../dataset/open-datasets.ts";
import { settledDamping } from "../hessian/fit.ts";
import { readMetadata } from "../serve/query.ts";
import type { Examples } from "../train/train.ts";
import { exactByLayer } from "./exact.ts";
import { writeFidelity } from "./fidelity.ts";
import { collectBlocks } from "./gradients.ts";
import { agreementOf, conditionOf, layerScores, summed } from "./score.ts";
import { areaUnderCurve, mean } from "./statistics.ts";
import { fidelityReport, verdictOf } from "./trust.ts";

/** Bytes of full gradients that the sample may take. */
const SAMPLE_BYTES = 2e9;
/** Other sizes that are tried, in units of the run's own R. */
const SIZES = [0.25, 4];
/** What a configuration may ask for. */
const COMPRESSORS = configSchema.shape.compressor.unwrap().options;

export interface Verification extends Fidelity {
  /** AUC of self-influence, and of the loss alone, for the labels flipped on purpose; null where none are known. */
  selfInfluenceAuc: number | null;
  lossAuc: number | null;
  /** All of it, to print. */
  text: string;
}

/** The training examples and queries of the comparison. */
interface Sample {
  n: number;
  m: number;
  sets: Examples[];
}

/** What compression makes of the sample, layer by layer. */
interface Compression {
  /** Influence by layer [m, n]; under a joint Hessian of all layers at once. */
  layers: Float64Array[];
  conditions: number[];
}

const rounded = (value: number) => Number(value.toFixed(3));

/** Means over the queries of two influences [m, n]. */
function agreementBetween(got: Float64Array, wanted: Float64Array, n: number): Agreement {
  const found = agreementOf(got, wanted, n);
  return {
    spearman: rounded(found.spearman),
    top10Helpful: rounded(found["top-10 helpful"]),
    top10Harmful: rounded(found["top-10 harmful"]),
    top100Helpful: rounded(found["top-100 helpful"]),
    top100Harmful: rounded(found["top-100 harmful"]),
  };
}

const sampled = (dataset: Dataset, count: number, seed: number | string, purpose: string): Examples => {
  const rows = [...sampleWithoutReplacement(dataset.n, count, random(seed, purpose).below)];
  return { n: count, feeds: (chosen) => dataset.feeds(chosen.map((row) => rows[row]!)) };
};

/** Compiles as a build with these settings would, in a folder that is gone afterwards. */
async function compiledWith<Result>(run: Run, changes: Partial<Config>, use: (compiled: Compiled) => Promise<Result>) {
  const scratch = join(run.folder, "scratch");
  mkdirSync(scratch, { recursive: true });
  const folder = mkdtempSync(join(run.folder, "verify-"));
  const silent = { step: () => ({ advance: () => {}, done: () => {} }), skipped: () => {}, note: () => {} };
  try {
    // Files that were unpacked for the run, and their digests, serve here too.
    symlinkSync(scratch, join(folder, "scratch"));
    return await use(await compileStep({ ...run, config: { ...run.config, ...changes }, folder, progress: silent }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Influence of the sample from its compressed gradients. `conditions` costs as much again. */
async function compress(
  { config }: Run,
  { graph, mask, dimension }: Compiled,
  { n, m, sets }: Sample,
  advance: StepProgress["advance"],
  withConditions = false,
): Promise<Compression> {
  const blocks = config.hessian === "joint" ? [{ layer: "all layers", offset: 0, r: dimension }] : mask;
  const collected = await collectBlocks(graph, blocks, sets, advance);
  const layers: Float64Array[] = [];
  const conditions: number[] = [];
  for (const [index, { layer, r }] of blocks.entries()) {
    const values = collected.blocks[index]!;
    layers.push((await layerScores(values, n, m, r, config.damping)).influence);
    if (withConditions) conditions.push(await conditionOf(layer, values, n, r, config.damping));
  }
  return { layers, conditions };
}

/** R as the configuration would say it, `factor` times as large and at most d. */
function scaled(config: Config, dimension: number, layers: readonly { d: number }[], factor: number) {
  const d = layers.reduce((sum, layer) => sum + layer.d, 0);
  if (config.r && "perLayer" in config.r) return { perLayer: Math.max(1, Math.round(config.r.perLayer * factor)) };
  return { total: Math.min(d, Math.max(layers.length, Math.round(dimension * factor))) };
}

/** Runs the comparison. The run's compile step is made if it is missing; its index is read for the AUC when it is there. */
export async function verify(given: Run, examples: number, queryCount: number): Promise<Verification> {
  const damping = settledDamping(given.config.damping, join(given.folder, "fit"));
  const run = { ...given, config: { ...given.config, damping } };
  const { config } = run;
  if (config.ensemble || Array.isArray(config.model))
    throw new Error("verify: expected one mask of one model, got an ensemble; verify a configuration of one member");
  const compiled = await compileStep(run);
  const { train, queries } = await openDatasets(run, compiled);
  const d = compiled.layers.reduce((sum, layer) => sum + layer.d, 0);
  const asked = queries ?? train;
  const [n, m] = [Math.min(examples, train.n), Math.min(queryCount, asked.n)];
  if ((n + m) * d * 4 > SAMPLE_BYTES) {
    const most = Math.floor(SAMPLE_BYTES / (4 * d)) - m;
    throw new Error(
      `verify: ${n} examples of d = ${d} take ${((n + m) * d * 4) / 1e9} GB; pass --examples ${Math.max(most, 1)} or fewer`,
    );
  }
  const sample: Sample = {
    n,
    m,
    sets: [sampled(train, n, config.seed, "verify/train"), sampled(asked, m, config.seed, "verify/queries")],
  };
  const sizes = SIZES.map((factor) => scaled(config, compiled.dimension, compiled.layers, factor));
  const others = COMPRESSORS.filter((kind) => kind !== config.compressor);
  const graphs = 3 + sizes.length + others.length;
  const progress = run.progress.step("verify", (n + m) * graphs, "gradients");

  const full = await compileGradient(modelPath(config), {
    ...compileOptions(config),
    r: { total: d },
    compressor: "uniform",
  });
  const exactLayers = await exactByLayer(full, sample, config, progress.advance);
  const exact = summed(exactLayers);
  const own = await compress(run, compiled, sample, progress.advance, true);
  const influence = summed(own.layers);
  const agreement = agreementBetween(influence, exact, n);
  const other = (changes: Partial<Config>) =>
    compiledWith(run, changes, async (made) => ({
      dimension: made.dimension,
      influence: summed((await compress(run, made, sample, progress.advance)).layers),
    }));

  const again = await other({ seed: `${config.seed}/verify` });
  const measuredSizes = [{ dimension: compiled.dimension, ...agreement }];
  for (const r of sizes) {
    const { dimension, influence: got } = await other({ r });
    measuredSizes.push({ dimension, ...agreementBetween(got, exact, n) });
  }
  const measuredCompressors = [{ kind: String(config.compressor), ...agreement }];
  for (const compressor of others) {
    const { influence: got } = await other({ compressor });
    measuredCompressors.push({ kind: compressor, ...agreementBetween(got, exact, n) });
  }
  const weights = exactLayers.map((values) => mean(Array.from(values, Math.abs)));
  const total = weights.reduce((sum, weight) => sum + weight, 0) || 1;
  const names = config.hessian === "joint" ? ["all layers"] : compiled.layers.map(({ name }) => name);
  const measured = {
    examples: n,
    queries: m,
    agreement,
    betweenSeeds: agreementBetween(again.influence, influence, n),
    sizes: measuredSizes
      .filter(({ dimension }, at) => measuredSizes.findIndex((size) => size.dimension === dimension) === at)
      .sort((a, b) => a.dimension - b.dimension),
    compressors: measuredCompressors,
    layers: names.map((name, index) => {
      const layer = agreementBetween(own.layers[index]!, exactLayers[index]!, n);
      return {
        name,
        share: rounded(weights[index]! / total),
        spearman: layer.spearman,
        top10Helpful: layer.top10Helpful,
        condition: Number(own.conditions[index]!.toPrecision(3)),
      };
    }),
  };
  progress.done();
  const fidelity: Fidelity = { verdict: verdictOf(measured), ...measured };
  writeFidelity(run.folder, {
    graphSha256: compiled.graphSha256,
    damping: JSON.stringify(config.damping),
    measured: fidelity,
  });
  const auc = flippedAuc(join(run.folder, "index"));
  const text = [
    fidelityReport(fidelity, d),
    "",
    auc.text,
    fidelity.verdict,
    "build again to store this with the index",
  ];
  return { ...fidelity, selfInfluenceAuc: auc.selfInfluence, lossAuc: auc.loss, text: text.join("\n") };
}

/** How well self-influence and the loss find the labels that the index knows to be flipped. */
function flippedAuc(index: string): { selfInfluence: number | null; loss: number | null; text: string } {
  const columns = existsSync(join(index, FILES.examples)) ? readMetadata(index, FILES.examples).columns : null;
  const flipped = columns?.flipped?.map(Boolean);
  const auc = (column: string, sign: number) => {
    const values = columns?.[column];
    return flipped?.some(Boolean) && values
      ? areaUnderCurve(
          values.map((value) => sign * Number(value)),
          flipped,
        )
      : null;
  };
  const [selfInfluence, loss] = [auc("selfInfluence", -1), auc("loss", 1)];
  const text =
    selfInfluence === null
      ? "no labels known to be wrong, or no index yet: no AUC"
      : `AUC for the ${flipped?.filter(Boolean).length} flipped labels: self-influence ${selfInfluence.toFixed(4)}, loss alone ${loss?.toFixed(4) ?? "–"}`;
  return { selfInfluence, loss, text };
}
