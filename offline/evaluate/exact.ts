/**
 * Exact influence on a sample, without a d × d matrix: with G [n, d] and H = GᵀG/n,
 * (H + λI)⁻¹ Gᵀ = Gᵀ (K/n + λI)⁻¹ where K = G Gᵀ is n × n (push-through identity). One layer at a time, float64.
 */
import { cholesky, solveWithFactor } from "../hessian/cholesky.ts";
import { type Damping, dampingOf, invertDamped } from "../hessian/fit.ts";
import { openGramAccumulator } from "../hessian/matrix.ts";

/** Inner products of all rows with all rows: [rows, rows] float64. `gradients`: [rows, width] float32; columns from … to − 1 count. */
async function innerProducts(
  gradients: Float32Array,
  rows: number,
  width: number,
  from: number,
  to: number,
): Promise<Float64Array> {
  const gram = await openGramAccumulator([{ offset: 0, r: rows }], rows);
  const chunk = 4096;
  try {
    for (let start = from; start < to; start += chunk) {
      const columns = Math.min(chunk, to - start);
      const transposed = new Float32Array(columns * rows);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++)
          transposed[column * rows + row] = gradients[row * width + start + column]!;
      }
      await gram.add(transposed, columns);
    }
    return gram.sums[0]!;
  } finally {
    await gram.release();
  }
}

/**
 * Adds one layer's exact influence to `influence` [m, n]. `gradients`: [n + m, width] float32, the n training rows first, then
 * the m queries; the layer is columns from … to − 1.
 */
export async function addExactInfluence(
  influence: Float64Array,
  gradients: Float32Array,
  n: number,
  m: number,
  width: number,
  [from, to]: readonly [number, number],
  rule: Damping,
): Promise<void> {
  const rows = n + m;
  const kernel = await innerProducts(gradients, rows, width, from, to);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += kernel[i * rows + i]! / n;
  const damping = dampingOf(rule, trace, to - from, n) || 1;
  const damped = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) damped[i * n + j] = kernel[i * rows + j]! / n + (i === j ? damping : 0);
  }
  const factor = cholesky(damped, n);
  for (let query = 0; query < m; query++) {
    const start = (n + query) * rows;
    const solved = solveWithFactor(factor, n, kernel.slice(start, start + n));
    for (let i = 0; i < n; i++) influence[query * n + i]! -= solved[i]!;
  }
}

/** Adds one layer's compressed influence: the same with the columns `kept` only, through the r × r Hessian as the product does. */
export async function addCompressedInfluence(
  influence: Float64Array,
  gradients: Float32Array,
  n: number,
  m: number,
  width: number,
  kept: Uint32Array,
  layer: string,
  rule: Damping,
): Promise<void> {
  const r = kept.length;
  const compressed = new Float32Array((n + m) * r);
  for (let row = 0; row < n + m; row++) {
    for (let k = 0; k < r; k++) compressed[row * r + k] = gradients[row * width + kept[k]!]!;
  }
  const gram = await openGramAccumulator([{ offset: 0, r }], r);
  await gram.add(compressed.subarray(0, n * r), n);
  await gram.release();
  const hessian = gram.sums[0]!.map((sum) => sum / n);
  let trace = 0;
  for (let i = 0; i < r; i++) trace += hessian[i * r + i]!;
  const inverse = await invertDamped(layer, hessian, r, dampingOf(rule, trace, r, n) || 1);
  const preconditioned = new Float64Array(r);
  for (let query = 0; query < m; query++) {
    const g = compressed.subarray((n + query) * r, (n + query + 1) * r);
    for (let i = 0; i < r; i++) {
      let sum = 0;
      for (let j = 0; j < r; j++) sum += inverse[i * r + j]! * g[j]!;
      preconditioned[i] = sum;
    }
    for (let row = 0; row < n; row++) {
      let sum = 0;
      for (let j = 0; j < r; j++) sum += compressed[row * r + j]! * preconditioned[j]!;
      influence[query * n + row]! -= sum;
    }
  }
}
