/** Queries on their way into the kernel, and the truth that they are answered by. */
import { type Basis, signsAt } from "./basis.ts";
import { SLOT, slotBytes } from "./kernel/kernel.ts";
import { strideOf } from "./plane.ts";
import type { Resident } from "./resident.ts";

/** A query in a slot of the kernel's memory. Intervals are in its unit: KernelExports.prepare says which. */
export interface PreparedQuery {
  slot: number;
  /** [R] float32, as asked: the caller's own. */
  values: Float32Array;
  unit: number;
  residualFactor: number;
  normFactor: number;
}

/**
 * Balances, rotates and quantises `gradient` ([R] float32) into slot 0 … QUERIES_AT_ONCE − 1; null if it is orthogonal to every row by
 * its zeros. Throws TypeError if it is no Float32Array, RangeError if its length is not R or a value is not finite.
 */
export function prepareQuery(resident: Resident, gradient: Float32Array, slot: number): PreparedQuery | null {
  if (!quantiseQuery(resident, gradient, slot)) return null;
  const address = slotAt(resident, slot);
  const term = (offset: number) => resident.doubles[(address + offset) / 8];
  return {
    slot,
    values: gradient,
    unit: term(SLOT.unit),
    residualFactor: term(SLOT.residualFactor),
    normFactor: term(SLOT.normFactor),
  };
}

/** The same, without what only the kernel needs to know; false for null. */
export function quantiseQuery(resident: Resident, gradient: Float32Array, slot: number): boolean {
  const { kernel, at, dimension, floats } = resident;
  checkLength(gradient, dimension);
  floats.set(gradient, at.values / 4);
  const address = slotAt(resident, slot);
  const signs = at.basis + signsAt(dimension);
  const done = kernel.prepare(
    at.values,
    at.scales,
    signs,
    dimension,
    strideOf(dimension),
    at.rotated,
    address,
    at.mixing,
  );
  if (done === 2) checkGradient(gradient, dimension);
  return done === 1;
}

/** Where a slot lies in the kernel's memory. */
export const slotAt = ({ at, dimension }: Resident, slot: number): number =>
  at.slots + slot * slotBytes(strideOf(dimension));

/** [R] float64: q̃_j = q_j · s_j, zero where every row is. */
export function balanceQuery({ scales }: Basis, gradient: Float32Array): Float64Array {
  const balanced = new Float64Array(gradient.length);
  for (let j = 0; j < gradient.length; j++) balanced[j] = gradient[j] * scales[j];
  return balanced;
}

/** Throws TypeError if `gradient` is no Float32Array, RangeError if its length is not R or a value is not finite. */
export function checkGradient(gradient: Float32Array, dimension: number): void {
  checkLength(gradient, dimension);
  for (let j = 0; j < dimension; j++) {
    if (Number.isFinite(gradient[j])) continue;
    throw new RangeError(`gradient: expected finite values, got ${gradient[j]} at position ${j}; check the model`);
  }
}

function checkLength(gradient: Float32Array, dimension: number): void {
  if (!(gradient instanceof Float32Array)) {
    throw new TypeError(`gradient: expected a Float32Array of ${dimension} values, got ${typeof gradient}; convert it`);
  }
  if (gradient.length !== dimension) {
    throw new RangeError(
      `gradient: expected ${dimension} values, got ${gradient.length}; compress it with this index's mask`,
    );
  }
}

/** Σ_j row_j · query_j in float64, j ascending: an influence is the negative of it. */
export function orderedDot(row: Float32Array, query: ArrayLike<number>): number {
  let sum = 0;
  for (let j = 0; j < row.length; j++) sum += row[j] * query[j];
  return sum;
}
