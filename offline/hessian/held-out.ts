/**
 * Damping chosen on examples that the Hessian has not seen. x_q = (H̃ + λI)⁻¹ g̃_q is meant to minimise ½ xᵀHx − g̃_qᵀx, the
 * quadratic model of the query's loss. So H̃ is fitted on four fifths of the training set, and
 *
 *   J(λ) = mean over queries of ½ x_qᵀ H' x_q − g̃_qᵀ x_q = ½ tr(Ω H' Ω Q) − tr(ΩQ),   Ω = (H̃ + λI)⁻¹,
 *
 * is computed with the curvature H' of the fifth that was left out, and with the queries' second moment Q. It is summed over the
 * layers, whose blocks are independent; λ_l = factor · tr(H̃_l)/n, and the factor with the least J is chosen. Nothing is retrained.
 * The likelihood of held-out gradients under N(0, H̃ + λI) was tried too, and chooses too little: where n ≪ r it sets λ to the
 * mean of the directions nobody has seen, J to that of those that queries have.
 */
import { PivotError } from "./cholesky.ts";
import { openGemm } from "./gemm.ts";
import type { ProductDevice } from "./matrix.ts";

/** Of tr(H̃)/n. */
export const FACTORS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300];

export interface Tried {
  factor: number;
  /** J, in units of the loss; null where H̃ + λI could not be inverted. */
  objective: number | null;
}

export interface Chosen {
  factor: number;
  tried: Tried[];
}

/** What J needs of one layer, [r, r] float64 each. */
export interface HeldOutBlock {
  r: number;
  /** H̃ of the examples it is fitted on. */
  fitted: Float64Array;
  /** H' of those left out, and Q of the queries. */
  held: Float64Array;
  queries: Float64Array;
}

/** tr(AB) of [r, r] matrices. */
function traceOfProduct(a: Float64Array, b: Float64Array, r: number): number {
  let sum = 0;
  for (let i = 0; i < r; i++) for (let j = 0; j < r; j++) sum += a[i * r + j]! * b[j * r + i]!;
  return sum;
}

/** J of one layer from Ω. */
async function objectiveOf(
  { r, held, queries }: HeldOutBlock,
  inverse: Float64Array,
  where: ProductDevice,
): Promise<number> {
  const gemm = openGemm(where);
  try {
    const square = (values: Float64Array) => ({ values, rows: r, columns: r });
    const curved = await gemm.multiply({}, square(inverse), square(held));
    const asked = await gemm.multiply({}, square(inverse), square(queries));
    return traceOfProduct(curved, asked, r) / 2 - traceOfProduct(inverse, queries, r);
  } finally {
    await gemm.release();
  }
}

/**
 * Tries every factor and chooses the one with the least J. `invert`: (H̃_b + λ_b I)⁻¹ of block b at a factor; throws with
 * a PivotError as its cause where that is not positive definite. Throws an Error when no factor has an inverse.
 */
export async function chooseFactor(
  blocks: readonly HeldOutBlock[],
  invert: (block: number, factor: number) => Promise<Float64Array>,
  where: ProductDevice = {},
): Promise<Chosen> {
  const tried: Tried[] = [];
  for (const factor of FACTORS) {
    let objective: number | null = 0;
    for (const [b, block] of blocks.entries()) {
      const inverse = await invert(b, factor).catch((error: Error) => {
        if (error.cause instanceof PivotError) return null;
        throw error;
      });
      if (inverse === null || objective === null) objective = null;
      else objective += await objectiveOf(block, inverse, where);
    }
    tried.push({ factor, objective });
  }
  const best = tried.reduce((least, other) => (lossOf(other) < lossOf(least) ? other : least), tried[0]!);
  if (best.objective === null)
    throw new Error(
      `damping: held-out: no factor from ${FACTORS[0]} to ${FACTORS.at(-1)} gives an inverse; set a number`,
    );
  return { factor: best.factor, tried };
}

const lossOf = ({ objective }: Tried): number => objective ?? Number.POSITIVE_INFINITY;
