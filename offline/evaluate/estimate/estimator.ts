/**
 * What every estimator is: from one layer's inner products to the influence of each training example on each query. Layers add up,
 * because H is block-diagonal. Through inner products alone a layer of any d costs n², and polynomials and inverses of
 * H = GᵀG/n act on the left of Gᵀ as those of K/n, K = GGᵀ, act on its right (the push-through identity).
 */
import type { Damping } from "../../hessian/fit.ts";
import { dampingOf } from "../../hessian/fit.ts";
import { innerProducts } from "../product.ts";

export interface Kernel {
  n: number;
  m: number;
  /** Coordinates of the gradients: d, or r after compression. */
  width: number;
  /** K = GGᵀ, [n, n]. */
  train: Float64Array;
  /** Q Gᵀ of the query gradients Q, [m, n]. */
  cross: Float64Array;
}

export interface Estimator {
  /** As tables and result files name it. */
  name: string;
  /** influence(i, q) of one layer, [m, n]; negative is helpful. `damping`: λ of the layer. */
  influence(kernel: Kernel, damping: number): Float64Array | Promise<Float64Array>;
}

/** What `fit` takes, or λ_l = κ·tr(H_l). */
export type DampingRule = Damping | { trace: number };

export function lambdaOf(rule: DampingRule, trace: number, width: number, n: number): number {
  const relative = typeof rule === "object" && "trace" in rule;
  const damping = relative ? rule.trace * trace : dampingOf(rule, trace, width, n);
  return damping || 1;
}

/** λ of a layer by its kernel. */
export const dampingFor = (kernel: Kernel, rule: DampingRule): number =>
  lambdaOf(rule, traceOf(kernel), kernel.width, kernel.n);

export function nameOfRule(rule: DampingRule): string {
  if (typeof rule !== "object") return String(rule);
  return "trace" in rule ? `${rule.trace}·tr` : `${rule.factor} × ${rule.rule}`;
}

/** tr(H) = tr(K)/n. */
export function traceOf({ train, n }: Pick<Kernel, "train" | "n">): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += train[i * n + i]!;
  return sum / n;
}

/** From gradients [n + m, width], the n training rows first. */
export async function kernelOf(values: Float32Array, n: number, m: number, width: number): Promise<Kernel> {
  const train = values.subarray(0, n * width);
  const queries = values.subarray(n * width, (n + m) * width);
  return {
    n,
    m,
    width,
    train: await innerProducts(train, n, train, n, width),
    cross: await innerProducts(queries, m, train, n, width),
  };
}

/** K/n + λI. */
export function dampedKernel({ train, n }: Kernel, damping: number): Float64Array {
  const damped = train.map((value) => value / n);
  for (let i = 0; i < n; i++) damped[i * n + i]! += damping;
  return damped;
}
