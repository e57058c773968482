/** A query in the basis of the rows, quantised, with the factors of its intervals. FORMAT.md proves them. */
import { type Basis, rotate } from "./basis.ts";
import { MIDDLE, QUERY_LIMIT, QUERY_OFFSET } from "./kernel/kernel.ts";

/**
 * One query. Dots below are in its own unit: q·p = unit · dot. With `residual` and `norm` as coarse.bin and fine.bin hold them,
 *   |dot of the scan − truth|                  ≤ residualFactor · residual     + normFactor · norm
 *   |dot of the scan + dot of refine − truth|  ≤ residualFactor · fineResidual + normFactor · norm
 * where the truth is the float64 dot product of the float32 values, summed in order, divided by the unit.
 */
export interface PreparedQuery {
  /** [R] float64: the query's float32 values. */
  values: Float64Array;
  /** [R] float64: T q̃ / unit, coordinates in −8191 … 8191. */
  rotated: Float64Array;
  /** [R] int16: `rotated`, rounded. */
  codes: Int16Array;
  unit: number;
  residualFactor: number;
  normFactor: number;
  /** What is added to normFactor where the scan uses only the high plane of the codes. */
  highFactor: number;
}

/** [R] float64: q̃_j = q_j · s_j, zero where every row is. */
export function balanceQuery({ scales }: Basis, gradient: Float32Array): Float64Array {
  const balanced = new Float64Array(gradient.length);
  for (let j = 0; j < gradient.length; j++) balanced[j] = gradient[j] * scales[j];
  return balanced;
}

function largestOf(values: Float64Array): number {
  let largest = 0;
  for (let j = 0; j < values.length; j++) largest = Math.max(largest, Math.abs(values[j]));
  return largest;
}

/**
 * Balances, rotates and quantises `gradient` ([R] float32); null if it is orthogonal to every row by its zeros.
 * Throws TypeError if it is no Float32Array, RangeError if its length is not R or a value is not finite.
 */
export function prepareQuery(basis: Basis, gradient: Float32Array): PreparedQuery | null {
  checkGradient(gradient, basis.dimension);
  const rotated = balanceQuery(basis, gradient);
  const largest = largestOf(rotated);
  if (largest === 0) return null;
  // A power of two brings the largest coordinate near one, so that no square overflows or vanishes; it rounds nothing.
  const near = 2 ** Math.floor(Math.log2(largest));
  for (let j = 0; j < rotated.length; j++) rotated[j] /= near;
  rotate(basis, rotated);

  const step = largestOf(rotated) / QUERY_LIMIT;
  const codes = new Int16Array(rotated.length);
  let square = 0;
  let left = 0;
  let lower = 0;
  for (let j = 0; j < rotated.length; j++) {
    const value = rotated[j] / step;
    const code = Math.round(value);
    rotated[j] = value;
    codes[j] = code;
    square += value * value;
    left += (value - code) * (value - code);
    const low = ((code + QUERY_OFFSET) & 127) - MIDDLE;
    lower += low * low;
  }
  // All rounding together, relative to ‖q‖‖p‖: the ordered sum, refine, two rotations, the scan's own products.
  const rounding = (4 * basis.dimension + 256) * 2 ** -53;
  const norm = Math.sqrt(square) * (1 + rounding);
  return {
    values: new Float64Array(gradient),
    rotated,
    codes,
    unit: step * near,
    residualFactor: norm,
    normFactor: Math.sqrt(left) * (1 + rounding) + norm * rounding,
    highFactor: Math.sqrt(lower) * (1 + rounding),
  };
}

/** Throws TypeError if `gradient` is no Float32Array, RangeError if its length is not R or a value is not finite. */
export function checkGradient(gradient: Float32Array, dimension: number): void {
  if (!(gradient instanceof Float32Array)) {
    throw new TypeError(`gradient: expected a Float32Array of ${dimension} values, got ${typeof gradient}; convert it`);
  }
  if (gradient.length !== dimension) {
    throw new RangeError(
      `gradient: expected ${dimension} values, got ${gradient.length}; compress it with this index's mask`,
    );
  }
  for (let j = 0; j < dimension; j++) {
    if (Number.isFinite(gradient[j])) continue;
    throw new RangeError(`gradient: expected finite values, got ${gradient[j]} at position ${j}; check the model`);
  }
}

/** Lays a query out for the kernel's scan: see kernel.ts. `target`: 4 · stride bytes. */
export function writeQuery(codes: Int16Array, target: Uint8Array, stride: number): void {
  const wide = new Int16Array(target.buffer, target.byteOffset + 2 * stride, stride);
  wide.fill(0);
  wide.set(codes);
  // The padding's high plane is 64 like that of any zero; the rows' padding is zero, so it never counts.
  for (let j = 0; j < stride; j++) {
    const shifted = wide[j] + QUERY_OFFSET;
    target[j] = shifted >> 7;
    target[stride + j] = shifted & 127;
  }
}

/** Σ_j row_j · query_j in float64, j ascending: an influence is the negative of it. */
export function orderedDot(row: Float32Array, query: ArrayLike<number>): number {
  let sum = 0;
  for (let j = 0; j < row.length; j++) sum += row[j] * query[j];
  return sum;
}
