/**
 * The scan in relaxed SIMD. The relaxed dot product's second operand must be in 0 … 127 (a negative one gives wrong sums on
 * some processors), so the query comes as two planes: Q = 128 h + l − 4096 and Σ c·Q = 128 Σ c·h + Σ c·l − 4096 Σ c.
 * The high plane alone, with 63.5 for l, already excludes most rows; the low plane is multiplied only where it does not. h has six
 * bits and not seven, so that four products fit 16 bits and are widened together: processors multiply less often than they add
 * (measured: a tenth to a sixth more rows a second), and the wider intervals let hardly more rows through.
 */
import { participants, put, reaches, sumLanes, TERMS } from "./candidates";
import {
  CODES, HEAD_HIGH_FACTOR, HEAD_SCALE_FACTOR, HIGH_FACTOR, NORM_FACTOR, RESIDUAL_FACTOR, TAIL_FACTOR,
} from "./slot";

/**
 * The rows that reach a bound; where `head` ≠ 0, `codes` are of heads, `stride` bytes each, and written is what heads alone do not
 * exclude: places, and the high plane's sums, i32, at `outPairs`. Two groups of four rows are multiplied at once, half the rows apart: two
 * streams of memory are read faster than one.
 */
export function scan(
  terms: usize, codes: usize, stride: usize, head: usize, first: u32, count: u32, slot: usize,
  high: f64, low: f64, filter: usize, outPlaces: usize, outPairs: usize,
): u32 {
  const query = slot + CODES;
  const residualFactor = load<f64>(slot, RESIDUAL_FACTOR);
  const normFactor = load<f64>(slot, NORM_FACTOR);
  const highFactor = head == 0 ? load<f64>(slot, HIGH_FACTOR) : load<f64>(slot, HEAD_HIGH_FACTOR);
  // Of the third term: what the codes leave of a row, or its tail.
  const thirdFactor = head == 0 ? residualFactor : load<f64>(slot, TAIL_FACTOR);
  const scaleFactor = head == 0 ? 0 : load<f64>(slot, HEAD_SCALE_FACTOR);
  const end = first + count;
  const middle = first + (((count + 7) >> 3) << 2);
  const one = ones(stride);
  const rounding = roundingOf(residualFactor, stride);
  const thirds = f32x4.splat(<f32>(thirdFactor * (1 + ROUNDING)));
  const steps = f32x4.splat(<f32>(scaleFactor * (1 + ROUNDING)));
  const norms = f32x4.splat(<f32>((normFactor + highFactor) * (1 + ROUNDING) + rounding));
  const least = leastOf(high);
  const most = mostOf(low);
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
    let q = query;
    for (const stop = query + (stride & ~31); q < stop; q += 32, p += 128, r += 128) {
      const six = v128.load(q);
      const next = v128.load(q, 16);
      a = plusTwo(a, v128.load(p, 0), six, v128.load(p, 64), next, one);
      b = plusTwo(b, v128.load(p, 16), six, v128.load(p, 80), next, one);
      c = plusTwo(c, v128.load(p, 32), six, v128.load(p, 96), next, one);
      d = plusTwo(d, v128.load(p, 48), six, v128.load(p, 112), next, one);
      e = plusTwo(e, v128.load(r, 0), six, v128.load(r, 64), next, one);
      f = plusTwo(f, v128.load(r, 16), six, v128.load(r, 80), next, one);
      g = plusTwo(g, v128.load(r, 32), six, v128.load(r, 96), next, one);
      h = plusTwo(h, v128.load(r, 48), six, v128.load(r, 112), next, one);
    }
    if (stride & 16) {
      const six = v128.load(q);
      a = plus(a, v128.load(p, 0), six, one);
      b = plus(b, v128.load(p, 16), six, one);
      c = plus(c, v128.load(p, 32), six, one);
      d = plus(d, v128.load(p, 48), six, one);
      e = plus(e, v128.load(r, 0), six, one);
      f = plus(f, v128.load(r, 16), six, one);
      g = plus(g, v128.load(r, 32), six, one);
      h = plus(h, v128.load(r, 48), six, one);
    }
    const highs = sumLanes(a, b, c, d);
    const left = found(terms + TERMS * row, highs, thirds, norms, steps, least, most) & mask;
    if (left != 0) {
      written = head != 0 ? list(row, left, highs, written, outPlaces, outPairs) : settle(
        terms + TERMS * row, codes + stride * row, stride, row, left, query + stride, highs,
        residualFactor, normFactor, high, low, written, outPlaces, outPairs,
      );
    }
    const otherHighs = sumLanes(e, f, g, h);
    const otherLeft = found(terms + TERMS * other, otherHighs, thirds, norms, steps, least, most) & otherMask;
    if (otherLeft != 0) {
      written = head != 0 ? list(other, otherLeft, otherHighs, written, outPlaces, outPairs) : settle(
        terms + TERMS * other, codes + stride * other, stride, other, otherLeft, query + stride, otherHighs,
        residualFactor, normFactor, high, low, written, outPlaces, outPairs,
      );
    }
  }
  return written;
}

/**
 * Sixteen-bit ones. As a constant they would be made anew for each use (measured: a fifth slower), and so would those inside the
 * relaxed product that sums to 32 bits.
 */
// @ts-ignore: decorator
@inline
export function ones(stride: usize): v128 {
  return i16x8.splat(<i16>(stride > 0));
}

/** sum + Σ codes · seven by fours of coordinates. A pair's two products are within 2 · 127², so within 16 bits. */
// @ts-ignore: decorator
@inline
export function plus(sum: v128, codes: v128, seven: v128, one: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(codes, seven), one));
}

/** The same of two sixteens of six-bit coordinates: four products are within 4 · 127 · 63, so within 16 bits. */
// @ts-ignore: decorator
@inline
export function plusTwo(sum: v128, codes: v128, six: v128, more: v128, next: v128, one: v128): v128 {
  const both = i16x8.add(i16x8.relaxed_dot_i8x16_i7x16_s(codes, six), i16x8.relaxed_dot_i8x16_i7x16_s(more, next));
  return i32x4.add(sum, i32x4.dot_i16x8_s(both, one));
}

/** More than float32 rounds in `found`, and the least bound: what is above zero counts, and nothing that underflows is lost. */
export const ROUNDING: f64 = 1.0 / 1048576;
const LEAST: f32 = 1e-40;
/** What a width gains for what underflows in it: four times the least normal float32. */
const UNDERFLOW: f32 = 4.8e-38;

/** What rounding in float32 may do to a dot or a width, by a row's norm: less than 2⁻²⁰ of these (FORMAT.md). */
// @ts-ignore: decorator
@inline
export function roundingOf(residualFactor: f64, stride: usize): f64 {
  return (residualFactor + 256 * Math.sqrt(<f64>stride)) * ROUNDING;
}

/** The bounds that a row must reach, rounded towards zero. */
// @ts-ignore: decorator
@inline
export function leastOf(high: f64): v128 {
  return f32x4.splat(max<f32>(<f32>(high * (1 - ROUNDING)), LEAST));
}

// @ts-ignore: decorator
@inline
export function mostOf(low: f64): v128 {
  return f32x4.splat(min<f32>(<f32>(low * (1 - ROUNDING)), -LEAST));
}

/** Four bits: the rows that the high plane alone does not exclude, computed in float32 with wider intervals. */
// @ts-ignore: decorator
@inline
function found(at: usize, highs: v128, thirds: v128, norms: v128, steps: v128, least: v128, most: v128): u32 {
  const a = v128.load(at);
  const b = v128.load(at, 16);
  const c = v128.load(at, 32);
  const d = v128.load(at, 48);
  // From four rows of (scale, norm, residual or tail's norm, sum of codes) to four of each.
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const abRest = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cdRest = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  const scale = v128.shuffle<i32>(ab, cd, 0, 1, 4, 5);
  const norm = v128.shuffle<i32>(ab, cd, 2, 3, 6, 7);
  const third = v128.shuffle<i32>(abRest, cdRest, 0, 1, 4, 5);
  const sum = v128.shuffle<i32>(abRest, cdRest, 2, 3, 6, 7);
  const width = f32x4.add(f32x4.add(f32x4.mul(thirds, third), f32x4.mul(norms, norm)), f32x4.mul(steps, scale));
  return within(dots(scale, sum, highs), width, least, most);
}

/** scale · (128 h + 63.5 − 4096), where 128 h − 4096 = 128 (h − 32) is computed in integers. */
// @ts-ignore: decorator
@inline
export function dots(scale: v128, sum: v128, highs: v128): v128 {
  const centred = f32x4.convert_i32x4_s(i32x4.sub(highs, i32x4.shl(sum, 5)));
  return f32x4.mul(
    scale,
    f32x4.add(f32x4.mul(f32x4.splat(128), centred), f32x4.mul(f32x4.splat(63.5), f32x4.convert_i32x4_s(sum))),
  );
}

/** Four bits: the intervals that reach a bound. */
// @ts-ignore: decorator
@inline
export function within(dot: v128, width: v128, least: v128, most: v128): u32 {
  const wide = f32x4.add(width, f32x4.splat(UNDERFLOW));
  return i32x4.bitmask(v128.or(f32x4.ge(f32x4.add(dot, wide), least), f32x4.le(f32x4.sub(dot, wide), most)));
}

/** Writes the rows of `mask`, u32, and their sums, i32. */
function list(row: u32, mask: u32, highs: v128, written: u32, outPlaces: usize, outPairs: usize): u32 {
  for (; mask != 0; mask &= mask - 1) {
    const lane = ctz(mask);
    store<u32>(outPlaces + 4 * written, row + lane);
    store<i32>(outPairs + 4 * written, laneOf(highs, lane));
    written++;
  }
  return written;
}

/** Adds the low plane for those in `mask` of a group of four rows, and writes what reaches a bound; |Σ| ≤ 127² R < 2³¹ for R ≤ 2¹⁷. */
function settle(
  at: usize, group: usize, stride: usize, row: u32, mask: u32, plane: usize, highs: v128,
  residualFactor: f64, normFactor: f64, high: f64, low: f64,
  written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const one = ones(stride);
  for (; mask != 0; mask &= mask - 1) {
    const lane = ctz(mask);
    let sums = i32x4.splat(0);
    for (let q = plane, stop = plane + stride, p = group + 16 * lane; q < stop; q += 16, p += 64) {
      sums = plus(sums, v128.load(p), v128.load(q), one);
    }
    const lows = i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) +
      i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
    const terms = at + TERMS * lane;
    const scale = <f64>load<f32>(terms);
    // 128 h + l − 4096, exact in float64.
    const dot = scale * (128 * <f64>laneOf(highs, lane) + <f64>lows - 4096 * <f64>load<i32>(terms, 12));
    const width = residualFactor * <f64>load<f32>(terms, 8) + normFactor * <f64>load<f32>(terms, 4);
    if (reaches(dot, width, high, low)) written = put(row + lane, dot, width, written, outPlaces, outPairs);
  }
  return written;
}

// @ts-ignore: decorator
@inline
export function laneOf(four: v128, lane: u32): i32 {
  if (lane == 0) return i32x4.extract_lane(four, 0);
  if (lane == 1) return i32x4.extract_lane(four, 1);
  return lane == 2 ? i32x4.extract_lane(four, 2) : i32x4.extract_lane(four, 3);
}
