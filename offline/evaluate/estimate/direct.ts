/**
 * The damped inverse itself: influence = −g_qᵀ (H + λI)⁻¹ g_i (eq. 1 of arXiv 2509.15651 with full gradients, "Orig"; eq. 4 with
 * compressed ones). Through K/n + λI, n × n, or through H̃ + λI, r × r: the same numbers.
 */
import { positiveDefiniteInverse } from "../../hessian/blocked-cholesky.ts";
import { cholesky, inverseFromFactor, solveWithFactor } from "../../hessian/cholesky.ts";
import { openGramAccumulator } from "../../hessian/matrix.ts";
import { product64, THREADS } from "../product.ts";
import { type DampingRule, dampedKernel, type Estimator, type Kernel, lambdaOf } from "./estimator.ts";

export const direct: Estimator = {
  name: "exact",
  influence: async (kernel, damping) => {
    const { n, m, cross } = kernel;
    const inverse = await positiveDefiniteInverse(dampedKernel(kernel, damping), n, { threads: THREADS });
    return (await product64(cross, inverse, [m, n, n])).map((value) => -value);
  },
};

/** g_iᵀ (H + λI)⁻¹ g_i of each training example, [n]: K (K/n + λI)⁻¹ = n (I − λ (K/n + λI)⁻¹). */
export function selfInfluence(kernel: Kernel, damping: number): Float64Array {
  const { n } = kernel;
  const inverse = inverseFromFactor(cholesky(dampedKernel(kernel, damping), n), n);
  return Float64Array.from({ length: n }, (_, i) => n * (1 - damping * inverse[i * n + i]!));
}

/** tr(H(H + λI)⁻¹) = tr(I − λ(K/n + λI)⁻¹) over the n directions: how many of them weigh more than the damping. */
export function effectiveRank(kernel: Kernel, damping: number): number {
  const { n } = kernel;
  const inverse = inverseFromFactor(cholesky(dampedKernel(kernel, damping), n), n);
  let rank = n;
  for (let i = 0; i < n; i++) rank -= damping * inverse[i * n + i]!;
  return rank;
}

/** H̃ [r, r] of the n training rows of compressed gradients [≥ n, r], and its λ. */
export async function compressedHessian(values: Float32Array, n: number, r: number, rule: DampingRule) {
  const gram = await openGramAccumulator([{ offset: 0, r }], r, { threads: THREADS });
  await gram.add(values.subarray(0, n * r), n);
  await gram.release();
  const hessian = gram.sums[0]!.map((sum) => sum / n);
  let trace = 0;
  for (let i = 0; i < r; i++) trace += hessian[i * r + i]!;
  return { hessian, damping: lambdaOf(rule, trace, r, n) };
}

/**
 * Influence [m, n] of one layer from compressed gradients [n + m, r], through the r × r matrix; and, `withOwn`, self-influence [n]
 * (else zeros), which takes the whole inverse where the queries take one solution each.
 */
export async function compressedInfluence(
  values: Float32Array,
  n: number,
  m: number,
  r: number,
  rule: DampingRule,
  withOwn = true,
): Promise<{ influence: Float64Array; own: Float64Array }> {
  const { hessian, damping } = await compressedHessian(values, n, r, rule);
  for (let i = 0; i < r; i++) hessian[i * r + i]! += damping;
  const factor = cholesky(hessian, r);
  const wide = Float64Array.from(values.subarray(0, (n + m) * r));
  const [train, queries] = [wide.subarray(0, n * r), wide.subarray(n * r)];
  const own = new Float64Array(n);
  let solved = new Float64Array(m * r);
  if (withOwn) {
    const inverse = inverseFromFactor(factor, r);
    const preconditioned = await product64(train, inverse, [n, r, r]);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < r; k++) own[i]! += train[i * r + k]! * preconditioned[i * r + k]!;
    }
    solved = Float64Array.from(await product64(queries, inverse, [m, r, r]));
  } else {
    for (let query = 0; query < m; query++) {
      solved.set(solveWithFactor(factor, r, queries.slice(query * r, (query + 1) * r)), query * r);
    }
  }
  const influence = await product64(solved, train, [m, r, n], true);
  return { influence: influence.map((value) => -value), own };
}
