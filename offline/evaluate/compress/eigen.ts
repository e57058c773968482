/** Leading eigenvectors of symmetric matrices. */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";

/** The `count` largest eigenvalues of a [n, n], descending, and their unit eigenvectors as the rows of [count, n]. */
export function leadingEigenvectors(a: Float64Array, n: number, count: number) {
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
