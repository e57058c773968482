/**
 * Eigenbasis dropout: a layer's gradient G [o, i] is seen in the eigenvectors of Σ G·Gᵀ and Σ Gᵀ·G, and of the entries u_aᵀ·G·v_c the r
 * with the largest λ_a·μ_c are kept. That product estimates an entry's mean square in the Kronecker-factored eigenbasis (George et al.,
 * arXiv 1806.03884), where the Gauss-Newton matrix is nearly diagonal. LoGra with a PCA start keeps a k × l grid of the same
 * entries; here the kept ones may crowd where the eigenvalues are large.
 */
import type { Compressor } from "./compressor.ts";
import { leadingEigenvectors } from "./eigen.ts";
import { covariances, twoSided } from "./logra.ts";
import { gridExtents, matrixView } from "./matrix-view.ts";

/** Directions that are looked at on a side, for each row or column of the grid that LoGra would keep. */
export const WIDER = 4;

export const eigenbasis: Compressor = {
  name: "eigenbasis dropout",
  needs: "calibration",
  projection: async (setting) => {
    const view = matrixView(setting.layer);
    const [high, wide] = gridExtents(view, setting.r);
    const [k, l] = [Math.min(view.rows, WIDER * high), Math.min(view.columns, WIDER * wide)];
    const { left, right } = await covariances(view, setting);
    const rows = await leadingEigenvectors(left, view.rows, k);
    const columns = await leadingEigenvectors(right, view.columns, l);
    const kept = rows.values
      .flatMap((lambda, a) => columns.values.map((mu, c) => ({ at: a * l + c, weight: lambda * mu })))
      .sort((p, q) => q.weight - p.weight || p.at - q.at)
      .slice(0, setting.r)
      .map(({ at }) => at)
      .sort((a, b) => a - b);
    const whole = twoSided(view, Float32Array.from(rows.vectors), k, Float32Array.from(columns.vectors), l);
    return {
      r: kept.length,
      apply: async (values, count) => {
        const entries = await whole.apply(values, count);
        const result = new Float32Array(count * kept.length);
        for (let row = 0; row < count; row++) {
          for (const [rank, at] of kept.entries()) result[row * kept.length + rank] = entries[row * k * l + at]!;
        }
        return result;
      },
    };
  },
};
