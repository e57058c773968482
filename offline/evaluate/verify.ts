/**
 * Verify: can the compressed influence of this build be trusted? Compares it with exact influence on a sample of the training
 * set small enough to allow that, and says how well self-influence finds labels that are known to be wrong.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { layerCompressor } from "../../src/core/compress.ts";
import { FILES } from "../../src/core/manifest.ts";
import { sampleWithoutReplacement } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";
import type { Run } from "../command/run.ts";
import { compileGradient } from "../compile/compile.ts";
import { compileOptions, compileStep, modelPath } from "../compile/compiled.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { openDatasets } from "../dataset/open-datasets.ts";
import { openGradientSession } from "../gradients/session.ts";
import { readMetadata } from "../serve/query.ts";
import { addCompressedInfluence, addExactInfluence } from "./exact.ts";
import { writeFidelity } from "./fidelity.ts";
import { areaUnderCurve, mean, overlapOfSmallest, spearman } from "./statistics.ts";

/** Bytes of full gradients that the sample may take. */
const SAMPLE_BYTES = 2e9;

export interface Verification {
  examples: number;
  queries: number;
  /** Means over the queries. */
  spearman: number;
  top10Helpful: number;
  top10Harmful: number;
  /** AUC of self-influence, and of the loss alone, for the labels flipped on purpose; null where none are known. */
  selfInfluenceAuc: number | null;
  lossAuc: number | null;
  /** What that means, for someone who has not read the paper. */
  verdict: string;
  /** All of it, to print. */
  text: string;
}

/** Full gradients [rows, d] float32 of the given rows. */
async function fullGradients(
  graph: Uint8Array,
  d: number,
  parts: readonly { dataset: Dataset; rows: readonly number[] }[],
  advance: (count: number) => void,
): Promise<Float32Array> {
  const session = await openGradientSession(graph);
  const total = parts.reduce((sum, { rows }) => sum + rows.length, 0);
  const gradients = new Float32Array(total * d);
  let at = 0;
  try {
    for (const { dataset, rows } of parts) {
      for (let first = 0; first < rows.length; first += 20) {
        const batch = rows.slice(first, first + 20);
        const { gradient } = await session.run(await dataset.feeds(batch));
        if (!(gradient?.data instanceof Float32Array))
          throw new Error("gradient.onnx: expected a float32 output named gradient");
        gradients.set(gradient.data, at * d);
        at += batch.length;
        advance(batch.length);
      }
    }
  } finally {
    await session.release();
  }
  return gradients;
}

const sorted = (n: number, count: number, seed: number | string, purpose: string) => [
  ...sampleWithoutReplacement(n, Math.min(n, count), random(seed, purpose).below),
];

/** In plain words: how much of the true top ten is found, and what the rest of the ranking is worth. */
function verdictOf(helpful: number, harmful: number, correlation: number): string {
  const found = (10 * (helpful + harmful)) / 2;
  const top =
    found >= 8
      ? "The top of the lists can be trusted"
      : found >= 5
        ? "The top of the lists is right more often than not"
        : "Too few coordinates are kept for the lists to be trusted";
  const tail =
    correlation >= 0.8
      ? "and so can the ranking below it"
      : correlation >= 0.5
        ? "the ranking below it is rough"
        : "the ranking below it is noise";
  const advice = found >= 8 ? "" : "; a larger r agrees better";
  return `${top}: of the ten truly most influential examples ${found.toFixed(1)} are found on average, ${tail} (correlation ${correlation.toFixed(2)})${advice}.`;
}

/** Runs the comparison. The run's compile step is made if it is missing; its index is read for the AUC when it is there. */
export async function verify(run: Run, examples: number, queryCount: number): Promise<Verification> {
  const { config } = run;
  const compiled = await compileStep(run);
  const { train, queries } = await openDatasets(run, compiled);
  const d = compiled.layers.reduce((sum, layer) => sum + layer.d, 0);
  const n = Math.min(examples, train.n);
  const asked = queries ?? train;
  const m = Math.min(queryCount, asked.n);
  if ((n + m) * d * 4 > SAMPLE_BYTES) {
    const most = Math.floor(SAMPLE_BYTES / (4 * d)) - m;
    throw new Error(
      `verify: ${n} examples of d = ${d} take ${((n + m) * d * 4) / 1e9} GB; pass --examples ${Math.max(most, 1)} or fewer`,
    );
  }
  const full = await compileGradient(modelPath(config), {
    ...compileOptions(config),
    r: { total: d },
    compressor: "uniform",
  });
  const progress = run.progress.step("verify", n + m, "examples");
  const gradients = await fullGradients(
    full.graph,
    d,
    [
      { dataset: train, rows: sorted(train.n, n, config.seed, "verify/train") },
      { dataset: asked, rows: sorted(asked.n, m, config.seed, "verify/queries") },
    ],
    progress.advance,
  );
  const exact = new Float64Array(m * n);
  const compressed = new Float64Array(m * n);
  for (const [index, block] of full.mask.entries()) {
    const span = [block.offset, block.offset + block.d] as const;
    await addExactInfluence(exact, gradients, n, m, d, span, config.damping);
    const own = compiled.mask[index]!;
    const compress = layerCompressor(compiled.layers[index]!, own);
    const rows = new Float32Array((n + m) * own.r);
    for (let row = 0; row < n + m; row++) rows.set(compress(gradients, row * d + block.offset), row * own.r);
    const all = Uint32Array.from({ length: own.r }, (_, position) => position);
    await addCompressedInfluence(compressed, rows, n, m, own.r, all, block.layer, config.damping);
  }
  progress.done();

  const perQuery = Array.from({ length: m }, (_, query) => {
    const a = compressed.subarray(query * n, (query + 1) * n);
    const b = exact.subarray(query * n, (query + 1) * n);
    const negated = (values: Float64Array) => values.map((value) => -value);
    return {
      spearman: spearman(a, b),
      helpful: overlapOfSmallest(a, b, 10),
      harmful: overlapOfSmallest(negated(a), negated(b), 10),
    };
  });
  const index = join(run.folder, "index");
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
  const report = {
    examples: n,
    queries: m,
    spearman: mean(perQuery.map((query) => query.spearman)),
    top10Helpful: mean(perQuery.map(({ helpful }) => helpful)),
    top10Harmful: mean(perQuery.map(({ harmful }) => harmful)),
    selfInfluenceAuc: auc("selfInfluence", -1),
    lossAuc: auc("loss", 1),
  };
  const verdict = verdictOf(report.top10Helpful, report.top10Harmful, report.spearman);
  const { selfInfluenceAuc: _, lossAuc: __, ...agreement } = report;
  writeFidelity(run.folder, {
    graphSha256: compiled.graphSha256,
    damping: JSON.stringify(config.damping),
    measured: {
      ...Object.fromEntries(Object.entries(agreement).map(([name, value]) => [name, Number(value.toFixed(3))])),
      verdict,
    },
  });
  const text = [
    `compressed (R = ${compiled.dimension}) against exact influence (d = ${d}), ${n} training examples, ${m} queries, means:`,
    `  Spearman correlation over all examples   ${report.spearman.toFixed(3)}`,
    `  top-10 overlap, helpful / harmful        ${report.top10Helpful.toFixed(3)} / ${report.top10Harmful.toFixed(3)}`,
    report.selfInfluenceAuc === null
      ? "no labels known to be wrong, or no index yet: no AUC"
      : `AUC for the ${flipped?.filter(Boolean).length} flipped labels: self-influence ${report.selfInfluenceAuc.toFixed(4)}, loss alone ${report.lossAuc?.toFixed(4) ?? "–"}`,
    verdict,
    "build again to store this with the index",
  ].join("\n");
  return { ...report, verdict, text };
}
