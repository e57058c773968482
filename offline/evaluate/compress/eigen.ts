/** Leading eigenvectors of symmetric positive semi-definite matrices. */
import { random } from "../../../src/core/random.ts";
import { eigenpairs, symmetric } from "../../compress/eigenvectors.ts";
import { product64 } from "../product.ts";

export interface Eigenvectors {
  /** Descending. */
  values: number[];
  /** Unit vectors as rows, [count, n]. */
  vectors: Float64Array;
}

/** From this size on, and for at most a quarter of the vectors, by subspace iteration: the whole decomposition costs n³. */
const LARGE = 400;
/** Vectors carried beside those asked for, rounds at most, and the relative change of their sum at which values count as found. */
const [SPARE, ROUNDS, TOLERANCE] = [10, 20, 1e-6];

/** The `count` eigenvectors with the largest eigenvalues, of all. */
function dense(a: Float64Array, n: number, count: number): Eigenvectors {
  const { values, vectors } = eigenpairs(symmetric(a, n));
  return { values: [...values.subarray(0, count)], vectors: vectors.slice(0, count * n) };
}

/** Directions whose share of the largest squared length is below this are noise of rounding. */
const LEAST = 1e-12;

/**
 * Orthonormal rows [k, n] with the span of the given ones, S^(−½)Uᵀ·rows for rows·rowsᵀ = U·S·Uᵀ: two dense products, where
 * Gram-Schmidt is k²n scalar steps. The rows are first made equally long, so that S says how alike they are and not how long.
 * A direction of nothing new becomes zero.
 */
async function orthonormalised(rows: Float64Array, k: number, n: number): Promise<Float64Array> {
  const equal = Float64Array.from(rows);
  for (let row = 0; row < k; row++) {
    const own = equal.subarray(row * n, (row + 1) * n);
    const length = Math.sqrt(own.reduce((sum, value) => sum + value * value, 0)) || 1;
    for (let i = 0; i < n; i++) own[i]! /= length;
  }
  const { values, vectors } = dense(await product64(equal, equal, [k, n, k], true), k, k);
  values.forEach((value, row) => {
    const scale = value > LEAST * (values[0] ?? 0) ? 1 / Math.sqrt(value) : 0;
    for (let i = 0; i < k; i++) vectors[row * k + i]! *= scale;
  });
  return product64(vectors, equal, [k, k, n]);
}

/** The `count` largest eigenvalues of a [n, n] and their vectors: dense, or by subspace iteration with Rayleigh-Ritz at each round. */
export async function leadingEigenvectors(a: Float64Array, n: number, count: number): Promise<Eigenvectors> {
  const k = Math.min(n, count + SPARE);
  if (n < LARGE || 4 * k > n) return dense(a, n, count);
  const { normal } = random(1, "subspace");
  let rows: Float64Array = Float64Array.from({ length: k * n }, normal);
  let before = 0;
  let found: Eigenvectors = { values: [], vectors: rows };
  for (let round = 0; round < ROUNDS; round++) {
    rows = await orthonormalised(rows, k, n);
    const moved = await product64(rows, a, [k, n, n]);
    const small = dense(await product64(rows, moved, [k, n, k], true), k, k);
    found = { values: small.values, vectors: await product64(small.vectors, rows, [k, k, n]) };
    const sum = small.values.slice(0, count).reduce((total, value) => total + value, 0);
    if (Math.abs(sum - before) <= TOLERANCE * Math.abs(sum)) break;
    before = sum;
    // A second time by A before the rows are looked at again: what a round costs is mostly the two small decompositions.
    rows = await product64(await product64(small.vectors, moved, [k, k, n]), a, [k, n, n]);
  }
  return { values: found.values.slice(0, count), vectors: found.vectors.slice(0, count * n) };
}
