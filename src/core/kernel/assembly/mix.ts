/** A query mixed: y = Aᵀ q̃ of ../../mixing.ts, in integers. */

/** MIXING of ../kernel.ts: f64, then u32. */
const SPREAD: usize = 0;
const BLOCKS: usize = 8;
const WIDTHS: usize = 12;
const FACTORS: usize = 16;
const PLACES: usize = 20;
const ENTRIES: usize = 24;
const INTEGERS: usize = 28;
export const MIXED_HEAD: usize = 32;

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
  let square: f64 = 0;
  let left: f64 = 0;
  for (let j: usize = 0; j < dimension; j++) {
    const value = load<f64>(x + 8 * j) * UNITS;
    const whole = nearest(value);
    square += value * value;
    left += (value - whole) * (value - whole);
    const integer = <i32>whole;
    store<i16>(highs + 2 * j, <i16>(integer >> HALF));
    store<i16>(lows + 2 * j, <i16>(integer & ((1 << HALF) - 1)));
  }
  const widths = <usize>load<u32>(mixing, WIDTHS);
  const factors = <usize>load<u32>(mixing, FACTORS);
  const places = <usize>load<u32>(mixing, PLACES);
  let entries = <usize>load<u32>(mixing, ENTRIES);
  let column: usize = 0;
  for (let block: usize = 0, count = <usize>load<u32>(mixing, BLOCKS); block < count; block++) {
    const width = <usize>load<u32>(widths + 4 * block);
    const bytes = (width + 15) & ~15;
    const from: usize = 2 * column;
    for (const end = column + width; column < end; column++, entries += bytes) {
      let high = i32x4.splat(0);
      let low = i32x4.splat(0);
      for (let at: usize = 0, q = from; at < bytes; at += 16, q += 32) {
        const front = v128.load_ext<i8>(entries + at);
        const back = v128.load_ext<i8>(entries + at, 8);
        high = i32x4.add(high, products(front, v128.load(highs + q), back, v128.load(highs + q, 16)));
        low = i32x4.add(low, products(front, v128.load(lows + q), back, v128.load(lows + q, 16)));
      }
      const sum = <f64>total(high) * <f64>(1 << HALF) + <f64>total(low);
      const place = <usize>load<u32>(places + 4 * column);
      store<f64>(x + 8 * place, sum * (load<f64>(factors + 8 * column) / UNITS));
    }
  }
  const ordered = <f64>dimension * (1.0 / 9007199254740992.0);
  return load<f64>(mixing, SPREAD) * ((LOSS + ordered) * Math.sqrt(square) + Math.sqrt(left)) / UNITS;
}

// @ts-ignore: decorator
@inline
function products(front: v128, q0: v128, back: v128, q1: v128): v128 {
  return i32x4.add(i32x4.dot_i16x8_s(front, q0), i32x4.dot_i16x8_s(back, q1));
}

// @ts-ignore: decorator
@inline
function total(lanes: v128): i32 {
  return i32x4.extract_lane(lanes, 0) + i32x4.extract_lane(lanes, 1) +
    i32x4.extract_lane(lanes, 2) + i32x4.extract_lane(lanes, 3);
}
