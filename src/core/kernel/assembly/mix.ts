/** A query mixed: y = Aᵀ q̃ of ../../mixing.ts, in integers. */

import { sumLanes } from "./candidates";

/** MIXING of ../kernel.ts: f64, then u32. */
const SPREAD: usize = 0;
const BLOCKS: usize = 8;
const WIDTHS: usize = 12;
const FACTORS: usize = 16;
const PLACES: usize = 20;
const ENTRIES: usize = 24;
const INTEGERS: usize = 28;
export const MIXED_HEAD: usize = 32;
/** Room for sums: i32 [2][4]. */
const SUMS: usize = 48;

/** The query's coordinates, below two, become integers of 28 bits: two halves of fourteen, for which sums of 512 products fit 32 bits. */
const UNITS: f64 = 134217728;
const HALF: i32 = 14;

/** The most that a row leaves of A z, relative to it: LOSS of ../../mixing.ts. */
const LOSS: f64 = 1.0 / 1073741824;

/**
 * Replaces q̃ in `x` (float64 [dimension], each below two) by y. Returns what that and the rounding of rows may cost a dot, relative to a row's norm.
 */
export function mix(x: usize, dimension: usize, mixing: usize): f64 {
  const highs = <usize>load<u32>(mixing, INTEGERS);
  // Columns are padded to sixteens, and read as much of the query behind their block.
  const lows = highs + 2 * (dimension + 16);
  let squares = f64x2.splat(0);
  let lefts = f64x2.splat(0);
  const units = f64x2.splat(UNITS);
  // Up to three more than there are, which are zeros.
  for (let j = dimension; j < ((dimension + 3) & ~3); j++) store<f64>(x + 8 * j, 0);
  for (let j: usize = 0; j < dimension; j += 4) {
    const front = f64x2.mul(v128.load(x + 8 * j), units);
    const back = f64x2.mul(v128.load(x + 8 * j, 16), units);
    const frontWhole = f64x2.nearest(front);
    const backWhole = f64x2.nearest(back);
    const frontLeft = f64x2.sub(front, frontWhole);
    const backLeft = f64x2.sub(back, backWhole);
    squares = f64x2.add(squares, f64x2.add(f64x2.mul(front, front), f64x2.mul(back, back)));
    lefts = f64x2.add(lefts, f64x2.add(f64x2.mul(frontLeft, frontLeft), f64x2.mul(backLeft, backLeft)));
    const integers = v128.shuffle<i32>(
      i32x4.trunc_sat_f64x2_s_zero(frontWhole), i32x4.trunc_sat_f64x2_s_zero(backWhole), 0, 1, 4, 5,
    );
    const high = i32x4.shr_s(integers, HALF);
    const low = v128.and(integers, i32x4.splat((1 << HALF) - 1));
    const halves = i16x8.narrow_i32x4_s(high, low);
    store<i64>(highs + 2 * j, i64x2.extract_lane(halves, 0));
    store<i64>(lows + 2 * j, i64x2.extract_lane(halves, 1));
  }
  const square = f64x2.extract_lane(squares, 0) + f64x2.extract_lane(squares, 1);
  const left = f64x2.extract_lane(lefts, 0) + f64x2.extract_lane(lefts, 1);
  const widths = <usize>load<u32>(mixing, WIDTHS);
  const factors = <usize>load<u32>(mixing, FACTORS);
  const places = <usize>load<u32>(mixing, PLACES);
  let entries = <usize>load<u32>(mixing, ENTRIES);
  let first: usize = 0;
  for (let block: usize = 0, count = <usize>load<u32>(mixing, BLOCKS); block < count; block++) {
    const width = <usize>load<u32>(widths + 4 * block);
    const bytes = (width + 15) & ~15;
    const end = first + width;
    for (let column = first; column < end; column += 4, entries += 4 * bytes) {
      multiply(entries, bytes, highs + 2 * first, lows + 2 * first, mixing + SUMS);
      const stop = min(column + 4, end);
      for (let at = column; at < stop; at++) {
        const lane = (at - column) << 2;
        const sum = <f64>load<i32>(mixing + lane, SUMS) * <f64>(1 << HALF) + <f64>load<i32>(mixing + lane, SUMS + 16);
        const place = <usize>load<u32>(places + 4 * at);
        store<f64>(x + 8 * place, sum * (load<f64>(factors + 8 * at) / UNITS));
      }
    }
    first = end;
  }
  const ordered = <f64>dimension * (1.0 / 9007199254740992.0);
  // A millionth more, for what is of second order.
  return 1.000001 * load<f64>(mixing, SPREAD) * ((LOSS + ordered) * Math.sqrt(square) + Math.sqrt(left)) / UNITS;
}

/** Σ entries · query of four columns, i32 [2][4] at `sums`: of the query's high halves and of its low ones. */
// @ts-ignore: decorator
@inline
function multiply(group: usize, bytes: usize, highs: usize, lows: usize, sums: usize): void {
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  let e = i32x4.splat(0);
  let f = i32x4.splat(0);
  let g = i32x4.splat(0);
  let h = i32x4.splat(0);
  for (const stop = group + 4 * bytes; group < stop; group += 64, highs += 32, lows += 32) {
    const high = v128.load(highs);
    const nextHigh = v128.load(highs, 16);
    const low = v128.load(lows);
    const nextLow = v128.load(lows, 16);
    const c0 = v128.load(group);
    a = addTwo(a, c0, high, nextHigh);
    e = addTwo(e, c0, low, nextLow);
    const c1 = v128.load(group, 16);
    b = addTwo(b, c1, high, nextHigh);
    f = addTwo(f, c1, low, nextLow);
    const c2 = v128.load(group, 32);
    c = addTwo(c, c2, high, nextHigh);
    g = addTwo(g, c2, low, nextLow);
    const c3 = v128.load(group, 48);
    d = addTwo(d, c3, high, nextHigh);
    h = addTwo(h, c3, low, nextLow);
  }
  v128.store(sums, sumLanes(a, b, c, d));
  v128.store(sums, sumLanes(e, f, g, h), 16);
}

/** Adds the products of sixteen entries, in signed bytes, and as many coordinates, in two times eight. */
// @ts-ignore: decorator
@inline
function addTwo(sum: v128, entries: v128, front: v128, back: v128): v128 {
  return i32x4.add(
    i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(entries), front)),
    i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(entries), back),
  );
}
