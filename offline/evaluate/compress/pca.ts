/**
 * Principal components of the calibration gradients, uncentred, because the Gauss-Newton matrix is: the r leading eigenvectors v
 * of GᵀG = Σ σ²vvᵀ, through the small kernel GGᵀ = Σ σ²uuᵀ and v = Gᵀu/σ. There are at most as many as calibration rows.
 */
import { innerProducts, product32 } from "../product.ts";
import type { Compressor } from "./compressor.ts";
import { leadingEigenvectors } from "./eigen.ts";

/** Components whose σ² is below this share of the largest are noise of rounding. */
const LEAST = 1e-10;

export const pca: Compressor = {
  name: "PCA",
  needs: "calibration",
  projection: async ({ layer: { d }, r: asked, calibration, calibrationRows: c }) => {
    const kernel = await innerProducts(calibration, c, calibration, c, d);
    const { values, vectors } = await leadingEigenvectors(kernel, c, asked);
    const r = Math.max(1, values.filter((value) => value > LEAST * (values[0] ?? 0)).length);
    const weights = new Float32Array(c * r);
    for (let k = 0; k < r; k++) {
      for (let i = 0; i < c; i++) weights[i * r + k] = vectors[k * c + i]! / Math.sqrt(values[k] || 1);
    }
    return {
      r,
      apply: async (rows, count) =>
        product32(await product32(rows, calibration, [count, d, c], true), weights, [count, c, r]),
    };
  },
};
