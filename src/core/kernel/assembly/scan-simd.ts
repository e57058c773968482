/** The scan in standard SIMD: int8 rows against the int16 query, both widened to 16 bits and multiplied in pairs. */
import { convertHigh, keep, participants, sumLanes, TERMS } from "./candidates";
import { CODES, HEAD_SCALE_FACTOR, NORM_FACTOR, RESIDUAL_FACTOR, TAIL_FACTOR } from "./slot";

/** Coordinates after which 32-bit sums are emptied: 127 · 4095 · 2048 < 2³¹. */
export const SEGMENT: usize = 2048;

/**
 * The rows that reach a bound; where `head` ≠ 0, `codes` are of heads, `stride` bytes each, and written is what heads alone do not
 * exclude. Two groups of four rows are multiplied at once, half the rows apart: two streams of memory are read faster than one. It
 * multiplies whole queries only.
 */
export function scan(
  terms: usize, codes: usize, stride: usize, head: usize, first: u32, count: u32, slot: usize,
  high: f64, low: f64, filter: usize, outPlaces: usize, outPairs: usize,
): u32 {
  const wide = slot + CODES;
  const thirdFactor = head == 0 ? load<f64>(slot, RESIDUAL_FACTOR) : load<f64>(slot, TAIL_FACTOR);
  const scaleFactor = head == 0 ? 0 : load<f64>(slot, HEAD_SCALE_FACTOR);
  const normFactor = load<f64>(slot, NORM_FACTOR);
  const end = first + count;
  const middle = first + (((count + 7) >> 3) << 2);
  let written: u32 = 0;
  for (let row = first, other = middle; row < middle; row += 4, other += 4) {
    const mask = participants(row, end, filter);
    const otherMask = other < end ? participants(other, end, filter) : 0;
    if ((mask | otherMask) == 0) continue;
    let p = codes + stride * row;
    let r = other < end ? codes + stride * other : p;
    let sums01 = f64x2.splat(0);
    let sums23 = f64x2.splat(0);
    let sums45 = f64x2.splat(0);
    let sums67 = f64x2.splat(0);
    for (let q = wide, last = wide + 2 * stride; q < last; ) {
      const stop = min(last, q + 2 * SEGMENT);
      let a = i32x4.splat(0);
      let b = i32x4.splat(0);
      let c = i32x4.splat(0);
      let d = i32x4.splat(0);
      let e = i32x4.splat(0);
      let f = i32x4.splat(0);
      let g = i32x4.splat(0);
      let h = i32x4.splat(0);
      for (; q < stop; q += 32, p += 64, r += 64) {
        const q0 = v128.load(q);
        const q1 = v128.load(q, 16);
        a = i32x4.add(a, dot(v128.load_ext<i8>(p), q0, v128.load_ext<i8>(p, 8), q1));
        b = i32x4.add(b, dot(v128.load_ext<i8>(p, 16), q0, v128.load_ext<i8>(p, 24), q1));
        c = i32x4.add(c, dot(v128.load_ext<i8>(p, 32), q0, v128.load_ext<i8>(p, 40), q1));
        d = i32x4.add(d, dot(v128.load_ext<i8>(p, 48), q0, v128.load_ext<i8>(p, 56), q1));
        e = i32x4.add(e, dot(v128.load_ext<i8>(r), q0, v128.load_ext<i8>(r, 8), q1));
        f = i32x4.add(f, dot(v128.load_ext<i8>(r, 16), q0, v128.load_ext<i8>(r, 24), q1));
        g = i32x4.add(g, dot(v128.load_ext<i8>(r, 32), q0, v128.load_ext<i8>(r, 40), q1));
        h = i32x4.add(h, dot(v128.load_ext<i8>(r, 48), q0, v128.load_ext<i8>(r, 56), q1));
      }
      const sums = sumLanes(a, b, c, d);
      const otherSums = sumLanes(e, f, g, h);
      sums01 = f64x2.add(sums01, f64x2.convert_low_i32x4_s(sums));
      sums23 = f64x2.add(sums23, convertHigh(sums));
      sums45 = f64x2.add(sums45, f64x2.convert_low_i32x4_s(otherSums));
      sums67 = f64x2.add(sums67, convertHigh(otherSums));
    }
    written = keep(
      terms + TERMS * row, row, mask, sums01, sums23,
      thirdFactor, normFactor, scaleFactor, high, low, written, outPlaces, outPairs,
    );
    if (otherMask == 0) continue;
    written = keep(
      terms + TERMS * other, other, otherMask, sums45, sums67,
      thirdFactor, normFactor, scaleFactor, high, low, written, outPlaces, outPairs,
    );
  }
  return written;
}

// @ts-ignore: decorator
@inline
export function dot(codes0: v128, query0: v128, codes1: v128, query1: v128): v128 {
  return i32x4.add(i32x4.dot_i16x8_s(codes0, query0), i32x4.dot_i16x8_s(codes1, query1));
}
