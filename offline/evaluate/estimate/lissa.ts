/**
 * LiSSA (Agarwal, Bullins and Hazan, arXiv 1602.03943; for influence, Koh and Liang, arXiv 1703.04730): the Neumann series
 * (H + λI)⁻¹g ≈ α Σ_{t<T} (I − α(H + λI))ᵗ g, by v ← g + v − α(H + λI)v. It converges for α below 2/(λ_max + λ); here
 * α = 1/(‖H‖_F + λ). All queries advance together; no example is sampled out.
 */
import { product64 } from "../product.ts";
import { dampedKernel, type Estimator, type Kernel } from "./estimator.ts";

function step({ train, n }: Kernel, damping: number): number {
  let squares = 0;
  for (const value of train) squares += (value / n) ** 2;
  return 1 / (Math.sqrt(squares) + damping);
}

/** T iterations: what is published is T = 10. */
export const lissa = (iterations: number): Estimator => ({
  name: `LiSSA, ${iterations} iterations`,
  influence: async (kernel, damping) => {
    const { n, m, cross } = kernel;
    const damped = dampedKernel(kernel, damping);
    const alpha = step(kernel, damping);
    let v = Float64Array.from(cross);
    for (let t = 1; t < iterations; t++) {
      const moved = await product64(v, damped, [m, n, n]);
      v = v.map((value, k) => cross[k]! + value - alpha * moved[k]!);
    }
    return v.map((value) => -alpha * value);
  },
});

/** Remaining share of the gradient, and doublings of T, at which the series counts as summed. */
const TOLERANCE = 1e-8;
const DOUBLINGS = 40;

/**
 * The series to convergence: with S_T = Σ_{t<T} Mᵗ and M = I − α(H + λI), S_{2T} = S_T + MᵀS_T and M²ᵀ = (Mᵀ)², so each product of
 * matrices doubles T. Stops when ‖Q Mᵀ‖ ≤ 1e-8 ‖Q‖. Throws if 2⁴⁰ terms do not suffice.
 */
export const lissaToConvergence: Estimator = {
  name: "LiSSA, converged",
  influence: async (kernel, damping) => {
    const { n, m, cross } = kernel;
    const alpha = step(kernel, damping);
    let power: Float64Array = dampedKernel(kernel, damping).map((value) => -alpha * value);
    for (let i = 0; i < n; i++) power[i * n + i]! += 1;
    let sum = Float64Array.from(cross);
    let rest = await product64(sum, power, [m, n, n]);
    const limit = TOLERANCE * Math.hypot(...norms(cross, m));
    for (let doubling = 0; doubling < DOUBLINGS; doubling++) {
      const tail = await product64(sum, power, [m, n, n]);
      sum = sum.map((value, k) => value + tail[k]!);
      if (Math.hypot(...norms(rest, m)) <= limit) return sum.map((value) => -alpha * value);
      power = await product64(power, power, [n, n, n]);
      rest = await product64(cross, power, [m, n, n]);
    }
    throw new Error(
      `LiSSA: expected the series to be summed by 2^${DOUBLINGS} terms, got a remainder above ${TOLERANCE} at λ = ${damping}; use a larger damping`,
    );
  },
};

/** Norm of each of m rows. */
function norms(values: Float64Array, m: number): number[] {
  const width = values.length / m;
  return Array.from({ length: m }, (_, row) => {
    let squares = 0;
    for (let k = 0; k < width; k++) squares += values[row * width + k]! ** 2;
    return Math.sqrt(squares);
  });
}
