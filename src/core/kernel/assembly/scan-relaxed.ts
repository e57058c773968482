/**
 * The scan in relaxed SIMD. The relaxed dot product's second operand must be in 0 … 127 (a negative one gives wrong sums on
 * some processors), so the query comes as two planes of seven bits: Q = 128 h + l − 8192 and Σ c·Q = 128 Σ c·h + Σ c·l − 8192 Σ c.
 * The high plane alone, with 63.5 for l, already excludes most rows; the low plane is multiplied only where it does not.
 */
import { convertHigh, keep, participants, reach, scales, sumLanes, TERMS, widths } from "./candidates";
export { exact, refine } from "./rescore";

/** See KernelExports.scan in ../kernel.ts. */
export function scan(
  terms: usize, codes: usize, stride: usize, first: u32, count: u32, query: usize,
  residualFactor: f64, normFactor: f64, highFactor: f64, high: f64, low: f64,
  filter: usize, outRows: usize, outPairs: usize,
): u32 {
  const end = first + count;
  const coarsely = normFactor + highFactor;
  let written: u32 = 0;
  for (let row = first; row < end; row += 4) {
    const mask = participants(row, end, filter);
    if (mask == 0) continue;
    const group = codes + stride * row;
    const highs = dots(group, query, stride);
    const high01 = f64x2.mul(f64x2.splat(128), f64x2.convert_low_i32x4_s(highs));
    const high23 = f64x2.mul(f64x2.splat(128), convertHigh(highs));
    const at = terms + TERMS * row;
    const a = v128.load(at);
    const b = v128.load(at, 16);
    const c = v128.load(at, 32);
    const d = v128.load(at, 48);
    const sum01 = f64x2.convert_low_i32x4_s(v128.shuffle<i32>(a, b, 3, 7, 3, 7));
    const sum23 = f64x2.convert_low_i32x4_s(v128.shuffle<i32>(c, d, 3, 7, 3, 7));
    const middle = f64x2.splat(8192 - 63.5);
    const dot01 = f64x2.mul(scales(a, b), f64x2.sub(high01, f64x2.mul(middle, sum01)));
    const dot23 = f64x2.mul(scales(c, d), f64x2.sub(high23, f64x2.mul(middle, sum23)));
    const found =
      reach(dot01, widths(a, b, residualFactor, coarsely), high, low) |
      (reach(dot23, widths(c, d, residualFactor, coarsely), high, low) << 2);
    if ((found & mask) == 0) continue;
    const lows = dots(group, query + stride, stride);
    const offset = f64x2.splat(8192);
    written = keep(
      at, row, found & mask,
      f64x2.sub(f64x2.add(high01, f64x2.convert_low_i32x4_s(lows)), f64x2.mul(offset, sum01)),
      f64x2.sub(f64x2.add(high23, convertHigh(lows)), f64x2.mul(offset, sum23)),
      residualFactor, normFactor, high, low, written, outRows, outPairs,
    );
  }
  return written;
}

/** Σ_j code_j · plane_j of a group of four rows; |Σ| ≤ 127² R < 2³¹ for R ≤ 2¹⁷. */
// @ts-ignore: decorator
@inline
function dots(group: usize, plane: usize, stride: usize): v128 {
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
  return sumLanes(a, b, c, d);
}
