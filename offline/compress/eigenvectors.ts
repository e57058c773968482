/** Leading eigenvectors of positive semi-definite matrices that are only known by their products, in float64. */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import type { Random } from "../../src/core/random.ts";

/** Eigenvalues of a symmetric matrix by falling size, and their vectors as rows, [n, n] row-major, of either sign. */
export function eigenpairs(matrix: Matrix): { values: Float64Array; vectors: Float64Array } {
  const n = matrix.rows;
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  const order = realEigenvalues.map((_, index) => index).sort((p, q) => realEigenvalues[q]! - realEigenvalues[p]!);
  const vectors = new Float64Array(n * n);
  order.forEach((column, row) => {
    for (let i = 0; i < n; i++) vectors[row * n + i] = eigenvectorMatrix.get(i, column);
  });
  return { values: Float64Array.from(order, (column) => realEigenvalues[column]!), vectors };
}

/** All eigenvectors of a symmetric a [n, n] as rows, by falling eigenvalue: [n, n]. Of each, the largest entry is positive. */
export function eigenvectors(a: Float64Array, n: number): Float64Array {
  return withFixedSigns(eigenpairs(symmetric(a, n)).vectors, n);
}

/** (a + aᵀ) / 2 of a [n, n] row-major. */
export function symmetric(a: Float64Array, n: number): Matrix {
  const matrix = new Matrix(n, n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) matrix.set(i, j, (a[i * n + j]! + a[j * n + i]!) / 2);
  return matrix;
}

/** Each row turned so that its entry of largest magnitude (of equal ones the first) is positive: a sign says nothing. */
function withFixedSigns(rows: Float64Array, n: number): Float64Array {
  for (let start = 0; start < rows.length; start += n) {
    const row = rows.subarray(start, start + n);
    const largest = row.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    if (largest < 0) for (let i = 0; i < n; i++) row[i]! *= -1;
  }
  return rows;
}

/** Rows [k, n], k ≤ n, made orthonormal in place (Gram-Schmidt, each row twice). A row of nothing new is drawn anew. */
export function orthonormalise(rows: Float64Array, k: number, n: number, { normal }: Random): void {
  for (let row = 0; row < k; row++) {
    const own = rows.subarray(row * n, (row + 1) * n);
    for (;;) {
      const before = lengthOf(own);
      for (let pass = 0; pass < 2; pass++) {
        for (let other = 0; other < row; other++) {
          const start = other * n;
          let along = 0;
          for (let i = 0; i < n; i++) along += own[i]! * rows[start + i]!;
          for (let i = 0; i < n; i++) own[i]! -= along * rows[start + i]!;
        }
      }
      const length = lengthOf(own);
      if (length > 1e-9 * before) {
        for (let i = 0; i < n; i++) own[i]! /= length;
        break;
      }
      for (let i = 0; i < n; i++) own[i] = normal();
    }
  }
}

function lengthOf(row: Float64Array): number {
  let sum = 0;
  for (const entry of row) sum += entry * entry;
  return Math.sqrt(sum);
}

/**
 * The eigenvectors within the span of orthonormal rows q [k, n] (Rayleigh-Ritz), from the matrix's product with them, as rows
 * [k, n] too: rows [k, n] by falling value.
 */
export function ritzVectors(q: Float64Array, product: Float64Array, k: number, n: number): Float64Array {
  const small = new Float64Array(k * k);
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < k; j++) {
      let sum = 0;
      for (let at = 0; at < n; at++) sum += q[i * n + at]! * product[j * n + at]!;
      small[i * k + j] = sum;
    }
  }
  const within = eigenvectors(small, k);
  const vectors = new Float64Array(k * n);
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < k; j++) {
      const weight = within[i * k + j]!;
      for (let at = 0; at < n; at++) vectors[i * n + at]! += weight * q[j * n + at]!;
    }
  }
  return withFixedSigns(vectors, n);
}
