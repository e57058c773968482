/** A method's influence on all queries of a prepared task, and how it compares with exact influence. */

import { splitEqually } from "../../src/core/mask.ts";
import { invertDamped, largestEigenvalue } from "../hessian/fit.ts";
import { compressorOf } from "./compress/all.ts";
import type { Projection } from "./compress/compressor.ts";
import { compressedHessian, compressedInfluence, direct, selfInfluence } from "./estimate/direct.ts";
import { type DampingRule, type Estimator, type Kernel, kernelOf, lambdaOf, traceOf } from "./estimate/estimator.ts";
import { everyNth } from "./gradients.ts";
import { mean, overlapOfSmallest, spearman } from "./statistics.ts";
import { CALIBRATION, type Prepared } from "./tasks/prepare.ts";

/** One layer's inner products at a time is small: all of them are kept. */
export async function kernelsOf({ gradients, n, m }: Prepared): Promise<Kernel[]> {
  const kernels: Kernel[] = [];
  for (const { layer, values } of gradients.layers) kernels.push(await kernelOf(values, n, m, layer.d));
  return kernels;
}

/** Adds up what an estimator says of each layer: [m, n]. */
export async function estimated(
  kernels: readonly Kernel[],
  estimator: Estimator,
  rule: DampingRule,
): Promise<Float64Array> {
  const [first] = kernels;
  const total = new Float64Array((first?.m ?? 0) * (first?.n ?? 0));
  for (const kernel of kernels) {
    const influence = await estimator.influence(kernel, lambdaOf(rule, traceOf(kernel), kernel.width, kernel.n));
    for (let k = 0; k < total.length; k++) total[k]! += influence[k]!;
  }
  return total;
}

/** The compressed gradients of each layer, [n + m, r_l], R shared equally over the layers. */
export async function compressedLayers(prepared: Prepared, compressor: string, R: number, seed: number | string) {
  const { gradients, factored, n } = prepared;
  const shares = splitEqually(
    gradients.layers.map(({ layer }) => layer.d),
    Math.min(
      R,
      gradients.layers.reduce((sum, { layer }) => sum + layer.d, 0),
    ),
  );
  const layers: { values: Float32Array; r: number }[] = [];
  for (const [index, { layer, values }] of gradients.layers.entries()) {
    const r = shares[index] ?? 0;
    if (r === 0) continue;
    const calibrationRows = Math.min(CALIBRATION, n);
    const projection: Projection = await compressorOf(compressor).projection({
      layer,
      r,
      seed,
      calibration: everyNth(values, layer.d, n, calibrationRows),
      calibrationRows,
      factored: factored[index] ?? null,
    });
    layers.push({ values: await projection.apply(values, gradients.rows), r: projection.r });
  }
  return layers;
}

export interface Scores {
  /** [m, n]. */
  influence: Float64Array;
  /** g̃_i (H̃ + λI)⁻¹ g̃_i, [n]. */
  own: Float64Array;
}

/** Compressed influence and, if asked for, self-influence (else 0), summed over layers: through r × r where r is the smaller side, else through n × n. */
export async function compressedScores(
  { n, m }: Pick<Prepared, "n" | "m">,
  layers: readonly { values: Float32Array; r: number }[],
  rule: DampingRule,
  withOwn = false,
): Promise<Scores> {
  const influence = new Float64Array(m * n);
  const own = new Float64Array(n);
  for (const { values, r } of layers) {
    const part = await layerScores(values, n, m, r, rule, withOwn);
    for (let k = 0; k < influence.length; k++) influence[k]! += part.influence[k]!;
    for (let i = 0; i < n; i++) own[i]! += part.own[i]!;
  }
  return { influence, own };
}

/** Their sum. */
export function summed([first, ...others]: readonly Float64Array[]): Float64Array {
  const total = Float64Array.from(first ?? []);
  for (const other of others) for (let k = 0; k < total.length; k++) total[k]! += other[k]!;
  return total;
}

/** λ_max/λ_min of a layer's H̃ + λI, to about 1 %, from the n training rows of its compressed gradients. */
export async function conditionOf(
  layer: string,
  values: Float32Array,
  n: number,
  r: number,
  rule: DampingRule,
): Promise<number> {
  const { hessian, damping } = await compressedHessian(values, n, r, rule);
  const inverse = await invertDamped(layer, hessian, r, damping);
  return (largestEigenvalue(hessian, r) + damping) * largestEigenvalue(inverse, r);
}

/** Of one layer, from its compressed gradients [n + m, r]: through the smaller of the two matrices. */
export function layerScores(
  values: Float32Array,
  n: number,
  m: number,
  r: number,
  rule: DampingRule,
  withOwn = false,
): Promise<Scores> {
  return r <= n ? compressedInfluence(values, n, m, r, rule, withOwn) : throughKernel(values, n, m, r, rule, withOwn);
}

/** The same numbers through the n × n matrix. */
async function throughKernel(
  values: Float32Array,
  n: number,
  m: number,
  r: number,
  rule: DampingRule,
  withOwn: boolean,
): Promise<Scores> {
  const kernel = await kernelOf(values, n, m, r);
  const damping = lambdaOf(rule, traceOf(kernel), r, n);
  return {
    influence: await direct.influence(kernel, damping),
    own: withOwn ? selfInfluence(kernel, damping) : new Float64Array(n),
  };
}

/** The same examples with one query: the mean of the queries' gradients. Losses of the queries are left out. */
export function withMeanQuery(prepared: Prepared): Prepared {
  const { n, m, gradients } = prepared;
  const layers = gradients.layers.map(({ layer, values }) => {
    const joined = new Float32Array((n + 1) * layer.d);
    joined.set(values.subarray(0, n * layer.d));
    const mean = new Float64Array(layer.d);
    for (let query = n; query < n + m; query++) {
      for (let k = 0; k < layer.d; k++) mean[k]! += values[query * layer.d + k]! / m;
    }
    joined.set(mean, n * layer.d);
    return { layer, values: joined };
  });
  return { ...prepared, m: 1, gradients: { rows: n + 1, layers }, losses: prepared.losses.slice(0, n) };
}

export const exactScores = (kernels: readonly Kernel[], rule: DampingRule) => estimated(kernels, direct, rule);

export interface Agreement extends Record<string, number> {
  spearman: number;
  /** Share of the exact k most helpful, and most harmful, that are among the method's. */
  "top-10 helpful": number;
  "top-10 harmful": number;
  "top-100 helpful": number;
  "top-100 harmful": number;
}

/** Means over the queries. Both [m, n]. */
export function agreementOf(got: Float64Array, exact: Float64Array, n: number): Agreement {
  const rows = Array.from({ length: got.length / n }, (_, query) => {
    const a = got.subarray(query * n, (query + 1) * n);
    const b = exact.subarray(query * n, (query + 1) * n);
    const [minusA, minusB] = [a.map((value) => -value), b.map((value) => -value)];
    const [ten, hundred] = [Math.min(10, n), Math.min(100, n)];
    return [
      spearman(a, b),
      overlapOfSmallest(a, b, ten),
      overlapOfSmallest(minusA, minusB, ten),
      overlapOfSmallest(a, b, hundred),
      overlapOfSmallest(minusA, minusB, hundred),
    ];
  });
  const column = (at: number) => mean(rows.map((row) => row[at] ?? 0));
  return {
    spearman: column(0),
    "top-10 helpful": column(1),
    "top-10 harmful": column(2),
    "top-100 helpful": column(3),
    "top-100 harmful": column(4),
  };
}
