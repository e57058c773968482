/** Leading eigenvectors of symmetric positive semi-definite matrices. */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { random } from "../../../src/core/random.ts";
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
const [SPARE, ROUNDS, TOLERANCE] = [10, 40, 1e-6];

/** All eigenvectors, the `count` with the largest eigenvalues kept. */
function dense(a: Float64Array, n: number, count: number): Eigenvectors {
  const matrix = new Matrix(n, n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) matrix.set(i, j, (a[i * n + j]! + a[j * n + i]!) / 2);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  const order = realEigenvalues
    .map((_, index) => index)
    .sort((p, q) => realEigenvalues[q]! - realEigenvalues[p]!)
    .slice(0, count);
  const vectors = new Float64Array(order.length * n);
  order.forEach((column, row) => {
    for (let i = 0; i < n; i++) vectors[row * n + i] = eigenvectorMatrix.get(i, column);
  });
  return { values: order.map((column) => realEigenvalues[column]!), vectors };
}

/** Makes the rows of [k, n] orthonormal, in place (Gram-Schmidt, each row twice). A row of nothing new becomes zero. */
function orthonormalise(rows: Float64Array, k: number, n: number): void {
  for (let row = 0; row < k; row++) {
    const own = rows.subarray(row * n, (row + 1) * n);
    const start = Math.hypot(...own) || 1;
    for (let pass = 0; pass < 2; pass++) {
      for (let other = 0; other < row; other++) {
        let along = 0;
        for (let i = 0; i < n; i++) along += own[i]! * rows[other * n + i]!;
        for (let i = 0; i < n; i++) own[i]! -= along * rows[other * n + i]!;
      }
    }
    const length = Math.hypot(...own);
    for (let i = 0; i < n; i++) own[i] = length > 1e-12 * start ? own[i]! / length : 0;
  }
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
    orthonormalise(rows, k, n);
    const moved = await product64(rows, a, [k, n, n]);
    const small = dense(await product64(rows, moved, [k, n, k], true), k, k);
    found = { values: small.values, vectors: await product64(small.vectors, rows, [k, k, n]) };
    const sum = small.values.slice(0, count).reduce((total, value) => total + value, 0);
    if (Math.abs(sum - before) <= TOLERANCE * Math.abs(sum)) break;
    before = sum;
    rows = await product64(small.vectors, moved, [k, k, n]);
  }
  return { values: found.values.slice(0, count), vectors: found.vectors.slice(0, count * n) };
}
