/**
 * Fit: H̃_l = (1/n) Σ g̃_i g̃_iᵀ of each layer, its damping λ_l, and (H̃_l + λ_l I)⁻¹ through Cholesky, all in float64.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { cholesky, inverseFromFactor, PivotError } from "./cholesky.ts";
import { type Block, openGramAccumulator } from "./matrix.ts";
import type { StepProgress } from "./progress.ts";
import { gradientBlocks, type ShardRows } from "./shard.ts";

export type Damping = "default" | "paper" | number;

const layerFitSchema = z.object({
  name: z.string(),
  offset: z.int(),
  r: z.int(),
  /** tr(H̃_l), λ_l, and an upper bound of the condition number of H̃_l + λ_l I: (tr(H̃_l) + λ_l) / λ_l. */
  trace: z.number(),
  damping: z.number(),
  conditionBound: z.number(),
  /** sha256 of the layer's inverse file. */
  sha256: z.string(),
});
export type LayerFit = z.infer<typeof layerFitSchema>;

/**
 * λ_l. `paper`: 0.1 · tr(H̃_l)/r_l (A.4.1, arXiv 2509.15651). `default`: the larger of that and tr(H̃_l)/n, because with n ≪ r
 * the paper's lies far below the n non-zero eigenvalues, and the inverse amplifies noise.
 */
export function dampingOf(rule: Damping, trace: number, r: number, n: number): number {
  const paper = (0.1 * trace) / r;
  if (rule === "paper") return paper;
  if (rule === "default") return Math.max(paper, trace / n);
  return rule;
}

/** (H̃_l + λ_l I)⁻¹ of a layer. Throws an Error that names layer, pivot and damping when the matrix is not positive definite. */
export function invertDamped(name: string, hessian: Float64Array, r: number, damping: number): Float64Array {
  const damped = Float64Array.from(hessian);
  for (let i = 0; i < r; i++) damped[i * r + i]! += damping;
  try {
    return inverseFromFactor(cholesky(damped, r), r);
  } catch (error) {
    if (!(error instanceof PivotError)) throw error;
    const suggestion = Math.max(damping * 10, Number.MIN_VALUE);
    throw new Error(
      `layer ${name}: Cholesky failed at pivot ${error.row} of ${r} (${error.pivot}) with damping ${damping}; set damping to ${suggestion} or more`,
    );
  }
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
    for (const { gradients, rows } of gradientBlocks(shards, BLOCK_ROWS)) {
      await gram.add(gradients, rows);
      n += rows;
      progress.advance(rows);
    }
  } finally {
    await gram.release();
  }
  if (n === 0) throw new Error("fit: expected at least one example with finite gradients, got none");
  const layers = blocks.map(({ name, offset, r }, b) => {
    const hessian = gram.sums[b]!.map((sum) => sum / n);
    let trace = 0;
    for (let i = 0; i < r; i++) trace += hessian[i * r + i]!;
    // A layer no example has a gradient in has no scale of its own; any positive damping leaves its p at zero.
    const damping = dampingOf(rule, trace, r, n) || 1;
    const inverse = invertDamped(name, hessian, r, damping);
    writeFileSync(join(folder, `inverse-${b}.f64`), inverse);
    const sha256 = createHash("sha256").update(inverse).digest("hex");
    return { name, offset, r, trace, damping, conditionBound: (trace + damping) / damping, sha256 };
  });
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
