/**
 * Fit: H̃_l = (1/n) Σ g̃_i g̃_iᵀ of each layer, its damping λ_l, and (H̃_l + λ_l I)⁻¹ through Cholesky, all in float64.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { StepProgress } from "../command/progress.ts";
import { rowBlocks, type ShardRows } from "../gradients/shard.ts";
import { positiveDefiniteInverse } from "./blocked-cholesky.ts";
import { numericalRank, PivotError } from "./cholesky.ts";
import { type Chosen, chooseFactor } from "./held-out.ts";
import { type Block, openGramAccumulator, type ProductDevice } from "./matrix.ts";

/** `paper`: 0.1 · tr(H̃_l)/r_l. `trace`: tr(H̃_l)/n. `default`: the larger of both. */
export type DampingRule = "default" | "paper" | "trace";
/** A rule, a rule times a factor, λ itself, or a factor of tr(H̃_l)/n that fit chooses on held-out examples (held-out.ts). */
export type Damping = DampingRule | { rule: DampingRule; factor: number } | number | "held-out";

/** The largest r whose rank is counted. */
const RANKED = 2048;

const layerFitSchema = z.object({
  name: z.string(),
  offset: z.int(),
  r: z.int(),
  /** tr(H̃_l) and λ_l. */
  trace: z.number(),
  damping: z.number(),
  /** Of H̃_l, by pivots: directions that float64 can tell from none. Null where r > RANKED, for which it would take as long as all else. */
  rank: z.int().nullable(),
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
  if (damping === "held-out")
    throw new Error("damping: expected what fit has chosen on held-out examples, got held-out; run fit first");
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
  where: ProductDevice = {},
): Promise<Float64Array> {
  const damped = Float64Array.from(hessian);
  for (let i = 0; i < r; i++) damped[i * r + i]! += damping;
  try {
    return await positiveDefiniteInverse(damped, r, where);
  } catch (error) {
    if (!(error instanceof PivotError)) throw error;
    const suggestion = Math.max(damping * 10, Number.MIN_VALUE);
    throw new Error(
      `layer ${name}: Cholesky failed at pivot ${error.row} of ${r} (${error.pivot}) with damping ${damping}; set damping to ${suggestion} or more`,
      { cause: error },
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

/** Σ g̃ g̃ᵀ over the rows of one part of the examples. */
interface Part {
  gram: Awaited<ReturnType<typeof openGramAccumulator>>;
  n: number;
}

/** Of every five training examples, one is held out; where there are no queries, of every ten one more stands for them. */
const partOf = (row: number, withQueries: boolean): number => (row % 5 < 4 ? 0 : withQueries || row % 10 < 5 ? 1 : 2);

/** Adds each row of the shards to its part. `parts`: one takes all. */
async function accumulate(
  shards: Iterable<ShardRows>,
  dimension: number,
  parts: readonly Part[],
  choose: (row: number) => number,
  onRows: (rows: number) => void,
): Promise<void> {
  const room = parts.length > 1 ? new Float32Array(BLOCK_ROWS * dimension) : new Float32Array();
  for (const { gradients, rows, index } of rowBlocks(shards, BLOCK_ROWS)) {
    for (const [p, part] of parts.entries()) {
      let count = rows;
      let values = gradients;
      if (parts.length > 1) {
        count = 0;
        for (let row = 0; row < rows; row++) {
          if (choose(index[row]!) !== p) continue;
          room.set(gradients.subarray(row * dimension, (row + 1) * dimension), count++ * dimension);
        }
        values = room.subarray(0, count * dimension);
      }
      if (count > 0) await part.gram.add(values, count);
      part.n += count;
    }
    onRows(rows);
  }
}

const sumOf = (arrays: readonly Float64Array[]): Float64Array =>
  arrays.reduce((sum, array) => sum.map((value, i) => value + array[i]!));

/** Where a choice of damping is kept. */
const CHOSEN = "damping.json";

/**
 * Writes fit.json and one file of [r, r] float64 a layer, `inverse-<index>.f64`; for held-out damping what was tried and chosen as
 * well. `queries`: what held-out damping asks with; where null, training examples that are held out.
 */
export async function fitLayers(
  folder: string,
  blocks: readonly (Block & { name: string })[],
  dimension: number,
  shards: Iterable<ShardRows>,
  rule: Damping,
  progress: StepProgress,
  queries: Iterable<ShardRows> | null = null,
  where: ProductDevice = {},
): Promise<LayerFit[]> {
  const count = rule === "held-out" ? (queries ? 2 : 3) : 1;
  const openPart = async (): Promise<Part> => ({ gram: await openGramAccumulator(blocks, dimension, where), n: 0 });
  const parts = await Promise.all(Array.from({ length: count }, openPart));
  const asked = rule === "held-out" && queries ? await openPart() : parts.at(-1)!;
  try {
    await accumulate(shards, dimension, parts, (row) => partOf(row, queries !== null), progress.advance);
    if (rule === "held-out" && queries)
      await accumulate(
        queries,
        dimension,
        [asked],
        () => 0,
        () => {},
      );
  } finally {
    for (const { gram } of new Set([...parts, asked])) await gram.release();
  }
  const n = parts.reduce((sum, part) => sum + part.n, 0);
  if (n === 0) throw new Error("fit: expected at least one example with finite gradients, got none");
  const hessianOf = (b: number) => sumOf(parts.map(({ gram }) => gram.sums[b]!)).map((sum) => sum / n);
  // A layer no example has a gradient in has no scale of its own; any positive damping leaves its p at zero.
  const lambda = (by: Damping, hessian: Float64Array, r: number) => dampingOf(by, traceOf(hessian, r), r, n) || 1;
  let damping = rule;
  if (rule === "held-out") {
    const few = [...parts, asked].find((part) => part.n === 0);
    if (few) throw new Error(`damping: held-out: expected ten training examples or more, got ${n}; use default`);
    const held = blocks.map(({ r }, b) => ({
      r,
      fitted: parts[0]!.gram.sums[b]!.map((sum) => sum / parts[0]!.n),
      held: parts[1]!.gram.sums[b]!.map((sum) => sum / parts[1]!.n),
      queries: asked.gram.sums[b]!.map((sum) => sum / asked.n),
    }));
    const chosen = await chooseFactor(
      held,
      (b, factor) => {
        const { name, r } = blocks[b]!;
        return invertDamped(name, held[b]!.fitted, r, lambda({ rule: "trace", factor }, hessianOf(b), r), where);
      },
      where,
    );
    writeFileSync(join(folder, CHOSEN), `${JSON.stringify(chosen, null, 2)}\n`);
    damping = { rule: "trace", factor: chosen.factor };
  }
  const layers: LayerFit[] = [];
  for (const [b, { name, offset, r }] of blocks.entries()) {
    const hessian = hessianOf(b);
    const layer = await fitLayer(name, hessian, r, lambda(damping, hessian, r), where);
    const path = join(folder, `inverse-${b}.f64`);
    writeFileSync(path, layer.inverse);
    const sha256 = createHash("sha256").update(layer.inverse).digest("hex");
    layers.push({ name, offset, r, ...layer.fit, sha256 });
    for (const { gram } of parts) gram.sums[b] = new Float64Array();
  }
  writeFileSync(join(folder, "fit.json"), `${JSON.stringify(layers, null, 2)}\n`);
  return layers;
}

function traceOf(matrix: Float64Array, r: number): number {
  let trace = 0;
  for (let i = 0; i < r; i++) trace += matrix[i * r + i]!;
  return trace;
}

/** The inverse of a layer's H̃ + λI, and what can be told of it. */
async function fitLayer(name: string, hessian: Float64Array, r: number, damping: number, where: ProductDevice) {
  const inverse = await invertDamped(name, hessian, r, damping, where);
  const largest = largestEigenvalue(hessian, r);
  const fit = {
    trace: traceOf(hessian, r),
    damping,
    rank: r <= RANKED ? numericalRank(hessian, r) : null,
    effectiveRank: r - damping * traceOf(inverse, r),
    condition: (largest + damping) * largestEigenvalue(inverse, r),
  };
  return { inverse, fit };
}

const chosenSchema = z.object({
  factor: z.number(),
  tried: z.array(z.object({ factor: z.number(), objective: z.number().nullable() })),
});

/** What `fit` chose on held-out examples; null where it was told. */
export function readChosen(folder: string): Chosen | null {
  const path = join(folder, CHOSEN);
  return existsSync(path) ? chosenSchema.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
}

/** The damping that a fit used: of held-out, the factor that it chose. */
export function settledDamping(damping: Damping, folder: string): Damping {
  const chosen = damping === "held-out" ? readChosen(folder) : null;
  return chosen ? { rule: "trace", factor: chosen.factor } : damping;
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
