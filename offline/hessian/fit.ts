/**
 * Fit: H̃_l = (1/n) Σ g̃_i g̃_iᵀ of each layer, its damping λ_l, and (H̃_l + λ_l I)⁻¹ through Cholesky, all in float64.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { StepProgress } from "../command/progress.ts";
import { rowBlocks, type ShardRows } from "../gradients/shard.ts";
import { positiveDefiniteInverse } from "./blocked-cholesky.ts";
import { PivotError } from "./cholesky.ts";
import { type Block, openGramAccumulator } from "./matrix.ts";

/** `paper`: 0.1 · tr(H̃_l)/r_l. `trace`: tr(H̃_l)/n. `default`: the larger of both. */
export type DampingRule = "default" | "paper" | "trace";
/** A rule, a rule times a factor, or λ itself. */
export type Damping = DampingRule | { rule: DampingRule; factor: number } | number;

const layerFitSchema = z.object({
  name: z.string(),
  offset: z.int(),
  r: z.int(),
  /** tr(H̃_l) and λ_l. */
  trace: z.number(),
  damping: z.number(),
  /** tr(H̃_l (H̃_l + λ_l I)⁻¹): how many directions weigh more than the damping. */
  effectiveRank: z.number(),
  /** λ_max / λ_min of H̃_l + λ_l I. */
  condition: z.number(),
  /** sha256 of the layer's inverse file. */
  sha256: z.string(),
});
export type LayerFit = z.infer<typeof layerFitSchema>;

/**
 * λ_l by rule. The paper's is A.4.1 of arXiv 2509.15651; with n ≪ r it lies far below the n non-zero eigenvalues, and the
 * inverse amplifies noise: hence the default.
 */
export function dampingOf(damping: Damping, trace: number, r: number, n: number): number {
  if (typeof damping === "number") return damping;
  if (typeof damping === "object") return damping.factor * dampingOf(damping.rule, trace, r, n);
  const paper = (0.1 * trace) / r;
  if (damping === "paper") return paper;
  return damping === "trace" ? trace / n : Math.max(paper, trace / n);
}

/** (H̃_l + λ_l I)⁻¹ of a layer. Throws an Error that names layer, pivot and damping when the matrix is not positive definite. */
export async function invertDamped(
  name: string,
  hessian: Float64Array,
  r: number,
  damping: number,
): Promise<Float64Array> {
  const damped = Float64Array.from(hessian);
  for (let i = 0; i < r; i++) damped[i * r + i]! += damping;
  try {
    return await positiveDefiniteInverse(damped, r);
  } catch (error) {
    if (!(error instanceof PivotError)) throw error;
    const suggestion = Math.max(damping * 10, Number.MIN_VALUE);
    throw new Error(
      `layer ${name}: Cholesky failed at pivot ${error.row} of ${r} (${error.pivot}) with damping ${damping}; set damping to ${suggestion} or more`,
    );
  }
}

/** The largest eigenvalue of a symmetric positive-semidefinite [r, r] matrix, by power iteration, to about 1 %. */
export function largestEigenvalue(matrix: Float64Array, r: number): number {
  let x = new Float64Array(r).map((_, i) => 1 + (i % 7) / 10);
  let eigenvalue = 0;
  for (let iteration = 0; iteration < 100; iteration++) {
    const y = new Float64Array(r);
    for (let i = 0; i < r; i++) {
      let sum = 0;
      for (let j = 0; j < r; j++) sum += matrix[i * r + j]! * x[j]!;
      y[i] = sum;
    }
    const length = Math.sqrt(y.reduce((sum, value) => sum + value * value, 0));
    if (length === 0) return 0;
    x = y.map((value) => value / length);
    if (Math.abs(length - eigenvalue) < 1e-3 * length) return length;
    eigenvalue = length;
  }
  return eigenvalue;
}

/** Rows multiplied at once: large enough for full speed, small enough for memory. */
const BLOCK_ROWS = 2000;

/** Writes fit.json and one file of [r, r] float64 a layer, `inverse-<index>.f64`. */
export async function fitLayers(
  folder: string,
  blocks: readonly (Block & { name: string })[],
  dimension: number,
  shards: Iterable<ShardRows>,
  rule: Damping,
  progress: StepProgress,
): Promise<LayerFit[]> {
  const gram = await openGramAccumulator(blocks, dimension);
  let n = 0;
  try {
    for (const { gradients, rows } of rowBlocks(shards, BLOCK_ROWS)) {
      await gram.add(gradients, rows);
      n += rows;
      progress.advance(rows);
    }
  } finally {
    await gram.release();
  }
  if (n === 0) throw new Error("fit: expected at least one example with finite gradients, got none");
  const layers: LayerFit[] = [];
  for (const [b, { name, offset, r }] of blocks.entries()) {
    const hessian = gram.sums[b]!.map((sum) => sum / n);
    let trace = 0;
    for (let i = 0; i < r; i++) trace += hessian[i * r + i]!;
    // A layer no example has a gradient in has no scale of its own; any positive damping leaves its p at zero.
    const damping = dampingOf(rule, trace, r, n) || 1;
    const inverse = await invertDamped(name, hessian, r, damping);
    let inverseTrace = 0;
    for (let i = 0; i < r; i++) inverseTrace += inverse[i * r + i]!;
    const path = join(folder, `inverse-${b}.f64`);
    writeFileSync(path, inverse);
    layers.push({
      name,
      offset,
      r,
      trace,
      damping,
      effectiveRank: r - damping * inverseTrace,
      condition: (largestEigenvalue(hessian, r) + damping) * largestEigenvalue(inverse, r),
      sha256: createHash("sha256").update(inverse).digest("hex"),
    });
    gram.sums[b] = new Float64Array();
  }
  writeFileSync(join(folder, "fit.json"), `${JSON.stringify(layers, null, 2)}\n`);
  return layers;
}

/** What `fit` wrote. */
export function readFit(folder: string): { layers: LayerFit[]; inverses: Float64Array[] } {
  const layers = z.array(layerFitSchema).parse(JSON.parse(readFileSync(join(folder, "fit.json"), "utf8")));
  const inverses = layers.map(({ sha256 }, b) => {
    const path = join(folder, `inverse-${b}.f64`);
    const bytes = readFileSync(path);
    const got = createHash("sha256").update(bytes).digest("hex");
    if (got !== sha256)
      throw new Error(`${path}: expected sha256 ${sha256}, got ${got}; delete ${folder} and fit again`);
    return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  });
  return { layers, inverses };
}
