/**
 * The scan in relaxed SIMD. The relaxed dot product's second operand must be in 0 … 127 (a negative one gives wrong sums on
 * some processors), so the query comes as two planes of seven bits: Q = 128 h + l − 8192 and Σ c·Q = 128 Σ c·h + Σ c·l − 8192 Σ c.
 * The high plane alone, with 63.5 for l, already excludes most rows; the low plane is multiplied only where it does not.
 */
import { convertHigh, keep, participants, reach, scales, sumLanes, TERMS, widths } from "./candidates";
export { exact, refine } from "./rescore";

/**
 * See KernelExports.scan in ../kernel.ts. Two groups of four rows are multiplied at once, half the rows apart: two streams of
 * memory are read faster than one.
 */
export function scan(
  terms: usize, codes: usize, stride: usize, first: u32, count: u32, query: usize,
  residualFactor: f64, normFactor: f64, highFactor: f64, high: f64, low: f64,
  filter: usize, outRows: usize, outPairs: usize,
): u32 {
  const end = first + count;
  const middle = first + (((count + 7) >> 3) << 2);
  const coarsely = normFactor + highFactor;
  let written: u32 = 0;
  for (let row = first, other = middle; row < middle; row += 4, other += 4) {
    const mask = participants(row, end, filter);
    const otherMask = other < end ? participants(other, end, filter) : 0;
    if ((mask | otherMask) == 0) continue;
    let p = codes + stride * row;
    let r = other < end ? codes + stride * other : p;
    let a = i32x4.splat(0);
    let b = i32x4.splat(0);
    let c = i32x4.splat(0);
    let d = i32x4.splat(0);
    let e = i32x4.splat(0);
    let f = i32x4.splat(0);
    let g = i32x4.splat(0);
    let h = i32x4.splat(0);
    for (let q = query, stop = query + stride; q < stop; q += 16, p += 64, r += 64) {
      const seven = v128.load(q);
      a = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p), seven, a);
      b = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p, 16), seven, b);
      c = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p, 32), seven, c);
      d = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p, 48), seven, d);
      e = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(r), seven, e);
      f = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(r, 16), seven, f);
      g = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(r, 32), seven, g);
      h = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(r, 48), seven, h);
    }
    const highs = sumLanes(a, b, c, d);
    const left = found(terms + TERMS * row, highs, residualFactor, coarsely, high, low) & mask;
    if (left != 0) {
      written = settle(
        terms + TERMS * row, codes + stride * row, stride, row, left, query + stride, highs,
        residualFactor, normFactor, high, low, written, outRows, outPairs,
      );
    }
    const otherHighs = sumLanes(e, f, g, h);
    const otherLeft = found(terms + TERMS * other, otherHighs, residualFactor, coarsely, high, low) & otherMask;
    if (otherLeft != 0) {
      written = settle(
        terms + TERMS * other, codes + stride * other, stride, other, otherLeft, query + stride, otherHighs,
        residualFactor, normFactor, high, low, written, outRows, outPairs,
      );
    }
  }
  return written;
}

/** Four bits: the rows that the high plane alone does not exclude. */
// @ts-ignore: decorator
@inline
function found(at: usize, highs: v128, residualFactor: f64, coarsely: f64, high: f64, low: f64): u32 {
  const a = v128.load(at);
  const b = v128.load(at, 16);
  const c = v128.load(at, 32);
  const d = v128.load(at, 48);
  const dot01 = f64x2.mul(scales(a, b), combine(f64x2.convert_low_i32x4_s(highs), a, b, 8192 - 63.5));
  const dot23 = f64x2.mul(scales(c, d), combine(convertHigh(highs), c, d, 8192 - 63.5));
  return reach(dot01, widths(a, b, residualFactor, coarsely), high, low) |
    (reach(dot23, widths(c, d, residualFactor, coarsely), high, low) << 2);
}

/** 128 · highs − offset · Σ code of two rows, exact in float64. */
// @ts-ignore: decorator
@inline
function combine(highs: v128, a: v128, b: v128, offset: f64): v128 {
  const sums = f64x2.convert_low_i32x4_s(v128.shuffle<i32>(a, b, 3, 7, 3, 7));
  return f64x2.sub(f64x2.mul(f64x2.splat(128), highs), f64x2.mul(f64x2.splat(offset), sums));
}

/** Adds the low plane for a group of four rows, and writes those in `mask` that reach a bound; |Σ| ≤ 127² R < 2³¹ for R ≤ 2¹⁷. */
function settle(
  at: usize, group: usize, stride: usize, row: u32, mask: u32, plane: usize, highs: v128,
  residualFactor: f64, normFactor: f64, high: f64, low: f64,
  written: u32, outRows: usize, outPairs: usize,
): u32 {
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  let p = group;
  for (let q = plane, stop = plane + stride; q < stop; q += 16, p += 64) {
    const seven = v128.load(q);
    a = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p), seven, a);
    b = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p, 16), seven, b);
    c = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p, 32), seven, c);
    d = i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.load(p, 48), seven, d);
  }
  const lows = sumLanes(a, b, c, d);
  const high01 = combine(f64x2.convert_low_i32x4_s(highs), v128.load(at), v128.load(at, 16), 8192);
  const high23 = combine(convertHigh(highs), v128.load(at, 32), v128.load(at, 48), 8192);
  return keep(
    at, row, mask,
    f64x2.add(high01, f64x2.convert_low_i32x4_s(lows)), f64x2.add(high23, convertHigh(lows)),
    residualFactor, normFactor, high, low, written, outRows, outPairs,
  );
}
