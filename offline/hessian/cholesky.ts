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
