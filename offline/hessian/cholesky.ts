/** Cholesky factorisation and inverse of a symmetric positive-definite matrix, float64, row-major. */

/** A pivot that is not positive: the matrix is not positive definite at working precision. */
export class PivotError extends Error {
  readonly row: number;
  readonly pivot: number;
  constructor(row: number, pivot: number) {
    super(`pivot ${row} is ${pivot}, expected a positive number`);
    this.name = "PivotError";
    this.row = row;
    this.pivot = pivot;
  }
}

/**
 * A = L Lᵀ. `a`: [r, r], only its lower triangle is read. Returns L, [r, r], zeros above the diagonal.
 * Throws PivotError at the first pivot that is not positive (or not finite).
 */
export function cholesky(a: Float64Array, r: number): Float64Array {
  const l = new Float64Array(r * r);
  for (let i = 0; i < r; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * r + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * r + k]! * l[j * r + k]!;
      if (i === j) {
        if (!(sum > 0 && sum < Number.POSITIVE_INFINITY)) throw new PivotError(i, sum);
        l[i * r + i] = Math.sqrt(sum);
      } else {
        l[i * r + j] = sum / l[j * r + j]!;
      }
    }
  }
  return l;
}

/**
 * The rank of a symmetric positive-semidefinite matrix at working precision: steps of Cholesky with the largest remaining pivot
 * first, until that is at most r · 2⁻⁵² of the first (LAPACK's dpstrf has the same criterion). `a`: [r, r].
 */
export function numericalRank(a: Float64Array, r: number): number {
  const remaining = Float64Array.from({ length: r }, (_, i) => a[i * r + i]!);
  const order = Uint32Array.from({ length: r }, (_, i) => i);
  // Row i of L, for row `order[i]` of A.
  const l = new Float64Array(r * r);
  const rowOf = (i: number) => order[i]! * r;
  let tolerance = 0;
  for (let k = 0; k < r; k++) {
    let pivot = k;
    for (let i = k + 1; i < r; i++) if (remaining[order[i]!]! > remaining[order[pivot]!]!) pivot = i;
    [order[k], order[pivot]] = [order[pivot]!, order[k]!];
    const value = remaining[order[k]!]!;
    if (k === 0) tolerance = r * 2 ** -52 * value;
    if (!(value > tolerance)) return k;
    const from = rowOf(k);
    const root = Math.sqrt(value);
    l[from + k] = root;
    for (let i = k + 1; i < r; i++) {
      const at = rowOf(i);
      let sum = a[at + order[k]!]!;
      for (let j = 0; j < k; j++) sum -= l[at + j]! * l[from + j]!;
      l[at + k] = sum / root;
      remaining[order[i]!]! -= l[at + k]! ** 2;
    }
  }
  return r;
}

/** L⁻ᵀ of a lower-triangular L, [r, r] upper-triangular: row j holds column j of L⁻¹, so that every inner loop runs along rows. */
function transposedInverse(l: Float64Array, r: number): Float64Array {
  const m = new Float64Array(r * r);
  for (let j = 0; j < r; j++) {
    m[j * r + j] = 1 / l[j * r + j]!;
    for (let i = j + 1; i < r; i++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum += l[i * r + k]! * m[j * r + k]!;
      m[j * r + i] = -sum / l[i * r + i]!;
    }
  }
  return m;
}

/** L⁻¹ of a lower-triangular L: [r, r], zeros above the diagonal. */
export function lowerInverse(l: Float64Array, r: number): Float64Array {
  const m = transposedInverse(l, r);
  const inverse = new Float64Array(r * r);
  for (let i = 0; i < r; i++) for (let j = 0; j <= i; j++) inverse[i * r + j] = m[j * r + i]!;
  return inverse;
}

/** A⁻¹ = L⁻ᵀ L⁻¹ from the factor L of `cholesky`: [r, r], symmetric to the bit. */
export function inverseFromFactor(l: Float64Array, r: number): Float64Array {
  const m = transposedInverse(l, r);
  const inverse = new Float64Array(r * r);
  for (let i = 0; i < r; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = i; k < r; k++) sum += m[i * r + k]! * m[j * r + k]!;
      inverse[i * r + j] = sum;
      inverse[j * r + i] = sum;
    }
  }
  return inverse;
}

/** x with A x = b, from the factor L of `cholesky`: forward, then back substitution. */
export function solveWithFactor(l: Float64Array, r: number, b: Float64Array): Float64Array {
  const x = Float64Array.from(b);
  for (let i = 0; i < r; i++) {
    let sum = x[i]!;
    for (let k = 0; k < i; k++) sum -= l[i * r + k]! * x[k]!;
    x[i] = sum / l[i * r + i]!;
  }
  for (let i = r - 1; i >= 0; i--) {
    let sum = x[i]!;
    for (let k = i + 1; k < r; k++) sum -= l[k * r + i]! * x[k]!;
    x[i] = sum / l[i * r + i]!;
  }
  return x;
}
