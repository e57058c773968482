/**
 * DataInf (Kwon, Wu, Wu and Zou, arXiv 2310.00902, eq. 5): the inverse of the mean becomes the mean of inverses, each closed by
 * Sherman-Morrison: (H + λI)⁻¹ ≈ (1/n) Σ_i (1/λ)(I − g_i g_iᵀ/(λ + ‖g_i‖²)).
 */
import { product64 } from "../product.ts";
import type { Estimator } from "./estimator.ts";

export const dataInf: Estimator = {
  name: "DataInf",
  influence: async ({ n, m, train, cross }, damping) => {
    const weighted = cross.map((value, k) => {
      const i = k % n;
      return value / (n * (damping + train[i * n + i]!));
    });
    const second = await product64(weighted, train, [m, n, n]);
    return cross.map((value, k) => -(value - second[k]!) / damping);
  },
};
