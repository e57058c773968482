/** What a scan keeps of four rows at a time: those whose interval reaches a bound. Addresses and terms as in ../kernel.ts. */

/** Bytes of a row's terms: f32 scale, f32 norm, f32 residual norm or its tail's norm, i32 sum of codes. */
export const TERMS: usize = 16;

/** Two rows' scales as f64x2, from their terms. */
// @ts-ignore: decorator
@inline
export function scales(a: v128, b: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<f32>(a, b, 0, 4, 0, 4));
}

/** thirdFactor · (residual or tail's norm) + normFactor · norm + scaleFactor · scale of two rows. */
// @ts-ignore: decorator
@inline
export function widths(a: v128, b: v128, thirdFactor: f64, normFactor: f64, scaleFactor: f64): v128 {
  const norms = f64x2.promote_low_f32x4(v128.shuffle<f32>(a, b, 1, 5, 1, 5));
  const thirds = f64x2.promote_low_f32x4(v128.shuffle<f32>(a, b, 2, 6, 2, 6));
  return f64x2.add(
    f64x2.add(f64x2.mul(f64x2.splat(thirdFactor), thirds), f64x2.mul(f64x2.splat(normFactor), norms)),
    f64x2.mul(f64x2.splat(scaleFactor), scales(a, b)),
  );
}

/** Whether a row may matter: (dot + width > 0 and ≥ high) or (dot − width < 0 and ≤ low). */
// @ts-ignore: decorator
@inline
export function reaches(dot: f64, width: f64, high: f64, low: f64): bool {
  const above = dot + width;
  const below = dot - width;
  return (above > 0 && above >= high) || (below < 0 && below <= low);
}

/** The same of two rows, as two bits: (dot + width > 0 and ≥ high) or (dot − width < 0 and ≤ low). */
// @ts-ignore: decorator
@inline
export function reach(dot: v128, width: v128, high: f64, low: f64): u32 {
  const zero = f64x2.splat(0);
  const above = f64x2.add(dot, width);
  const below = f64x2.sub(dot, width);
  const helpful = v128.and(f64x2.gt(above, zero), f64x2.ge(above, f64x2.splat(high)));
  const harmful = v128.and(f64x2.lt(below, zero), f64x2.le(below, f64x2.splat(low)));
  return i64x2.bitmask(v128.or(helpful, harmful));
}

/**
 * Of four rows from `row`, with terms at `terms` and Σ code · query in `sums01` and `sums23`, writes those that are in `mask` (bit b:
 * row + b) and reach a bound. Returns how many are written by now.
 */
// @ts-ignore: decorator
@inline
export function keep(
  terms: usize, row: u32, mask: u32, sums01: v128, sums23: v128,
  thirdFactor: f64, normFactor: f64, scaleFactor: f64, high: f64, low: f64,
  written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const a = v128.load(terms);
  const b = v128.load(terms, 16);
  const c = v128.load(terms, 32);
  const d = v128.load(terms, 48);
  const dot01 = f64x2.mul(scales(a, b), sums01);
  const dot23 = f64x2.mul(scales(c, d), sums23);
  const width01 = widths(a, b, thirdFactor, normFactor, scaleFactor);
  const width23 = widths(c, d, thirdFactor, normFactor, scaleFactor);
  const found = (reach(dot01, width01, high, low) | (reach(dot23, width23, high, low) << 2)) & mask;
  if (found == 0) return written;
  if (found & 1) {
    written = put(row, f64x2.extract_lane(dot01, 0), f64x2.extract_lane(width01, 0), written, outPlaces, outPairs);
  }
  if (found & 2) {
    written = put(row + 1, f64x2.extract_lane(dot01, 1), f64x2.extract_lane(width01, 1), written, outPlaces, outPairs);
  }
  if (found & 4) {
    written = put(row + 2, f64x2.extract_lane(dot23, 0), f64x2.extract_lane(width23, 0), written, outPlaces, outPairs);
  }
  if (found & 8) {
    written = put(row + 3, f64x2.extract_lane(dot23, 1), f64x2.extract_lane(width23, 1), written, outPlaces, outPairs);
  }
  return written;
}

/** Writes a row with its dot and width; returns how many are written by now. */
// @ts-ignore: decorator
@inline
export function put(row: u32, dot: f64, width: f64, written: u32, outPlaces: usize, outPairs: usize): u32 {
  store<u32>(outPlaces + 4 * written, row);
  store<f64>(outPairs + 16 * written, dot);
  store<f64>(outPairs + 16 * written, width, 8);
  return written + 1;
}

/** Bits of rows `row` … `row + 3` that take part: those before `end`, and in the bitmap at `filter` unless that is 0. */
// @ts-ignore: decorator
@inline
export function participants(row: u32, end: u32, filter: usize): u32 {
  let mask: u32 = end - row >= 4 ? 15 : (1 << (end - row)) - 1;
  if (filter != 0) mask &= <u32>load<u8>(filter + (row >> 3)) >> (row & 4);
  return mask;
}

/** The sums of four i32x4, as one i32x4. */
// @ts-ignore: decorator
@inline
export function sumLanes(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
  return i32x4.add(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7));
}

/** The last two lanes of an i32x4, as f64x2. */
// @ts-ignore: decorator
@inline
export function convertHigh(lanes: v128): v128 {
  return f64x2.convert_low_i32x4_s(v128.shuffle<i32>(lanes, lanes, 2, 3, 2, 3));
}
