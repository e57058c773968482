/** Small problems, and linear algebra written out, for oracles that share no code with what they check. */
import type { Layer } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";

export const layer: Layer = {
  name: "fc",
  parameters: [
    { name: "fc.weight", shape: [6, 9] },
    { name: "fc.bias", shape: [6] },
  ],
  d: 60,
};

/** [rows, d] float32 whose coordinates correlate and differ in scale by up to 30. */
export function gradientRows(rows: number, d: number, seed: string): Float32Array {
  const { normal } = random(seed, "rows");
  const scale = Array.from({ length: d }, (_, k) => 30 ** -(k / d));
  const values = new Float32Array(rows * d);
  for (let row = 0; row < rows; row++) {
    const common = normal();
    for (let k = 0; k < d; k++) values[row * d + k] = (normal() + common) * scale[k]!;
  }
  return values;
}

export type Matrix = number[][];

export const matrixOf = (values: ArrayLike<number>, rows: number, columns: number): Matrix =>
  Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => values[i * columns + j]!));

export const times = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)));

export const transposed = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map((row) => row[j]!));

/** A⁻¹ by Gauss-Jordan elimination with row exchanges. */
export function inverse(a: Matrix): Matrix {
  const size = a.length;
  const work = a.map((row, i) => [...row, ...row.map((_, j) => Number(i === j))]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column; row < size; row++) {
      if (Math.abs(work[row]![column]!) > Math.abs(work[pivot]![column]!)) pivot = row;
    }
    [work[column], work[pivot]] = [work[pivot]!, work[column]!];
    const head = work[column]![column]!;
    work[column] = work[column]!.map((value) => value / head);
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = work[row]![column]!;
      work[row] = work[row]!.map((value, j) => value - factor * work[column]![j]!);
    }
  }
  return work.map((row) => row.slice(size));
}

/** H = GᵀG/n. */
export const gaussNewton = (g: Matrix): Matrix => times(transposed(g), g).map((row) => row.map((v) => v / g.length));

/** A + λI. */
export const damped = (a: Matrix, lambda: number): Matrix =>
  a.map((row, i) => row.map((value, j) => value + (i === j ? lambda : 0)));

/** Largest |got − wanted| over the largest |wanted|. */
export function relativeDifference(got: ArrayLike<number>, wanted: Matrix): number {
  const flat = wanted.flat();
  const size = Math.max(...flat.map(Math.abs));
  if (got.length !== flat.length) return Number.POSITIVE_INFINITY;
  return Math.max(...flat.map((value, k) => Math.abs(got[k]! - value))) / size;
}
