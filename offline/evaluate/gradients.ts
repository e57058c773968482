/** Full gradients of some examples, held layer by layer: what compressors compress and estimators compare. */
import type { Layer } from "../../src/core/mask.ts";

export interface LayerGradients {
  layer: Layer;
  /** [rows, layer.d], row-major. */
  values: Float32Array;
}

export interface Gradients {
  rows: number;
  layers: LayerGradients[];
}

/** Rows `first` … `first + count − 1`, without copying. */
export function rowsOf(values: Float32Array, width: number, first: number, count: number): Float32Array {
  return values.subarray(first * width, (first + count) * width);
}

/** Row 0 of `values` [rows, width] and every ⌊rows/count⌋-th after it, `count` in all: a copy. */
export function everyNth(values: Float32Array, width: number, rows: number, count: number): Float32Array {
  const taken = Math.min(rows, count);
  const step = Math.floor(rows / taken);
  const sample = new Float32Array(taken * width);
  for (let i = 0; i < taken; i++) sample.set(rowsOf(values, width, i * step, 1), i * width);
  return sample;
}
