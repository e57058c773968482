/** Inner products of all rows of one matrix with all rows of another, in plain float64: the same bytes on every machine. */

/** Coordinates taken at a time, so that the rows in work stay in the nearest cache. */
const CHUNK = 512;

/**
 * A·Bᵀ, [a, b] row-major. `left`: [a, k], `right`: [b, k]. With `symmetric`, for left = right, half is computed and mirrored.
 * `product`: [a, b] zeros, to be added to.
 * Each sum is taken in the order of its coordinates, so its error is at most k · 2⁻⁵³ of the sum of magnitudes, to first order.
 */
export function rowProducts(
  left: Float64Array,
  right: Float64Array,
  k: number,
  symmetric = false,
  product: Float64Array = new Float64Array((left.length / k) * (right.length / k)),
): Float64Array {
  const a = left.length / k;
  const b = right.length / k;
  for (let from = 0; from < k; from += CHUNK) {
    const to = Math.min(k, from + CHUNK);
    for (let i = 0; i < a; i += 4) {
      const end = symmetric ? Math.min(b, i + 4) : b;
      for (let j = 0; j < end; j += 2) {
        if (i + 4 <= a && j + 2 <= b) tile(left, right, product, b, k, i, j, from, to);
        else edge(left, right, product, b, k, i, Math.min(a, i + 4), j, Math.min(b, j + 2), from, to);
      }
    }
  }
  if (symmetric) for (let i = 0; i < a; i++) for (let j = 0; j < i; j++) product[j * b + i] = product[i * b + j]!;
  return product;
}

/** Four rows by two: eight sums stay in registers. */
function tile(
  left: Float64Array,
  right: Float64Array,
  product: Float64Array,
  b: number,
  k: number,
  i: number,
  j: number,
  from: number,
  to: number,
): void {
  const at = i * b + j;
  let s00 = product[at]!;
  let s01 = product[at + 1]!;
  let s10 = product[at + b]!;
  let s11 = product[at + b + 1]!;
  let s20 = product[at + 2 * b]!;
  let s21 = product[at + 2 * b + 1]!;
  let s30 = product[at + 3 * b]!;
  let s31 = product[at + 3 * b + 1]!;
  const second = k;
  const third = 2 * k;
  const fourth = 3 * k;
  for (let p = i * k + from, q = j * k + from, end = i * k + to; p < end; p++, q++) {
    const x = right[q]!;
    const y = right[q + k]!;
    const l0 = left[p]!;
    s00 += l0 * x;
    s01 += l0 * y;
    const l1 = left[p + second]!;
    s10 += l1 * x;
    s11 += l1 * y;
    const l2 = left[p + third]!;
    s20 += l2 * x;
    s21 += l2 * y;
    const l3 = left[p + fourth]!;
    s30 += l3 * x;
    s31 += l3 * y;
  }
  product[at] = s00;
  product[at + 1] = s01;
  product[at + b] = s10;
  product[at + b + 1] = s11;
  product[at + 2 * b] = s20;
  product[at + 2 * b + 1] = s21;
  product[at + 3 * b] = s30;
  product[at + 3 * b + 1] = s31;
}

/** What is left over at the rims. */
function edge(
  left: Float64Array,
  right: Float64Array,
  product: Float64Array,
  b: number,
  k: number,
  i0: number,
  i1: number,
  j0: number,
  j1: number,
  from: number,
  to: number,
): void {
  for (let i = i0; i < i1; i++) {
    for (let j = j0; j < j1; j++) {
      let sum = product[i * b + j]!;
      for (let c = from; c < to; c++) sum += left[i * k + c]! * right[j * k + c]!;
      product[i * b + j] = sum;
    }
  }
}
