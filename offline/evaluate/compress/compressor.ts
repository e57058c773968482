/** What every compressor is: a linear map of one layer's gradient from d numbers to r, drawn once. */
import type { Layer } from "../../../src/core/mask.ts";

export interface Setting {
  layer: Layer;
  /** 1 … layer.d. */
  r: number;
  seed: number | string;
  /** Gradients of a calibration batch, [calibrationRows, layer.d] float32: what the data-dependent ones learn from. */
  calibration: Float32Array;
  calibrationRows: number;
  /** The product's factored estimate Σ_uses E[x_p²]·E[δ_q²] of each entry's mean square; null where no model is at hand. */
  factored: ((position: number) => number) | null;
}

export interface Projection {
  /** Numbers that are kept of a row; at most the r that was asked for. */
  r: number;
  /** [rows, d] → [rows, r]. */
  apply(values: Float32Array, rows: number): Float32Array | Promise<Float32Array>;
}

export interface Compressor {
  /** As tables and result files name it. */
  name: string;
  /** What making it costs beside applying it: nothing, one pass over a calibration batch, or more. */
  needs: "nothing" | "calibration";
  projection(setting: Setting): Projection | Promise<Projection>;
}

/** Keeps the entries at `kept`, unscaled. */
export function keeping(kept: ArrayLike<number>, d: number): Projection {
  const r = kept.length;
  return {
    r,
    apply: (values, rows) => {
      const result = new Float32Array(rows * r);
      for (let row = 0; row < rows; row++) {
        const from = row * d;
        const to = row * r;
        for (let k = 0; k < r; k++) result[to + k] = values[from + kept[k]!]!;
      }
      return result;
    },
  };
}
