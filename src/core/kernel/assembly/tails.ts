/** The tails of rows that their heads do not exclude: what then reaches a bound is written as KernelExports.scan writes it. */
import { put, reaches, sumLanes, TERMS } from "./candidates";
import { field, HEAD, LEFT_PAIRS, LEFT_PLACES, PART, ROW_CODES, ROW_TERMS, STRIDE, TAIL_CODES, TAIL_TERMS } from "./plane";
import { dots, laneOf, leastOf, mostOf, ones, plus, plusTwo, ROUNDING, roundingOf, within } from "./scan-relaxed";
import { dot as products, SEGMENT } from "./scan-simd";
import { CODES, HIGH_FACTOR, NORM_FACTOR, RESIDUAL_FACTOR } from "./slot";

/** Rows that the high plane does not exclude, behind the heads' sums at LEFT_PAIRS: their places, u32, and from there its sums over their heads and tails, i32. */
const CHOSEN: usize = 4 * PART;
const HEAD_HIGHS: usize = 4 * PART;
const TAIL_HIGHS: usize = 8 * PART;

/** `count` rows are left of a part, at the plane's LEFT_PLACES and LEFT_PAIRS. Returns how many are written by now. */
export function tails(
  plane: usize, count: u32, slot: usize, high: f64, low: f64, written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const places = field(plane, LEFT_PLACES);
  const pairs = field(plane, LEFT_PAIRS);
  const codes = field(plane, TAIL_CODES);
  const head = field(plane, HEAD);
  const stride = field(plane, STRIDE) - head;
  if (!ASC_FEATURE_RELAXED_SIMD) {
    for (let index: u32 = 0; index < count; index++) {
      const row = load<u32>(places + 4 * index);
      const sum = wholeSum(slot + CODES + 2 * head, stride, codes + stride * row);
      const own = field(plane, TAIL_TERMS) + TERMS * row;
      written = offered(own, row, load<f64>(pairs + 16 * index), sum, slot, high, low, written, outPlaces, outPairs);
    }
    return written;
  }
  const chosen = choose(plane, count, slot, high, low);
  const whole = field(plane, STRIDE);
  const query = slot + CODES + whole;
  const rows = field(plane, ROW_CODES);
  const list = pairs + CHOSEN;
  const last = chosen - 1;
  for (let index: u32 = 0; index < chosen; index += 4) {
    // Past the end of the list, its last row again.
    const r0 = <usize>load<u32>(list + 4 * index);
    const r1 = <usize>load<u32>(list + 4 * min(index + 1, last));
    const r2 = <usize>load<u32>(list + 4 * min(index + 2, last));
    const r3 = <usize>load<u32>(list + 4 * min(index + 3, last));
    const headLows = planeSums(
      query, head, 64, rowIn(rows, head, r0), rowIn(rows, head, r1), rowIn(rows, head, r2), rowIn(rows, head, r3),
    );
    const tailLows = planeSums(
      query + head, stride, 16, codes + stride * r0, codes + stride * r1, codes + stride * r2, codes + stride * r3,
    );
    for (let lane: u32 = 0; lane < min(4, chosen - index); lane++) {
      const entry = list + 4 * (index + lane);
      written = settled(
        plane, load<u32>(entry), load<i32>(entry, HEAD_HIGHS), laneOf(headLows, lane), load<i32>(entry, TAIL_HIGHS),
        laneOf(tailLows, lane), slot, high, low, written, outPlaces, outPairs,
      );
    }
  }
  return written;
}

/** Where a row's head begins: in a group of four. */
// @ts-ignore: decorator
@inline
function rowIn(codes: usize, head: usize, row: usize): usize {
  return codes + head * (row & ~3) + 16 * (row & 3);
}

/** Lists at CHOSEN the places that the high plane does not exclude, with its sums over their heads and tails. Returns how many. */
function choose(plane: usize, count: u32, slot: usize, high: f64, low: f64): u32 {
  const places = field(plane, LEFT_PLACES);
  const pairs = field(plane, LEFT_PAIRS);
  const codes = field(plane, TAIL_CODES);
  const head = field(plane, HEAD);
  const stride = field(plane, STRIDE) - head;
  const terms = field(plane, ROW_TERMS);
  const tailTerms = field(plane, TAIL_TERMS);
  const residualFactor = load<f64>(slot, RESIDUAL_FACTOR);
  const normFactor = load<f64>(slot, NORM_FACTOR) + load<f64>(slot, HIGH_FACTOR);
  const residuals = f32x4.splat(<f32>(residualFactor * (1 + ROUNDING)));
  const norms = f32x4.splat(<f32>(normFactor * (1 + ROUNDING) + roundingOf(residualFactor, head + stride)));
  const least = leastOf(high);
  const most = mostOf(low);
  const last = count - 1;
  let chosen: u32 = 0;
  for (let index: u32 = 0; index < count; index += 4) {
    // Past the end of the list, its last row again.
    const r0 = <usize>load<u32>(places + 4 * index);
    const r1 = <usize>load<u32>(places + 4 * min(index + 1, last));
    const r2 = <usize>load<u32>(places + 4 * min(index + 2, last));
    const r3 = <usize>load<u32>(places + 4 * min(index + 3, last));
    const highs = highSums(
      slot + CODES + head, stride, codes + stride * r0, codes + stride * r1, codes + stride * r2, codes + stride * r3,
    );
    const headHighs = v128.load(pairs + 4 * index);
    const a = v128.load(tailTerms + TERMS * r0);
    const b = v128.load(tailTerms + TERMS * r1);
    const c = v128.load(tailTerms + TERMS * r2);
    const d = v128.load(tailTerms + TERMS * r3);
    const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
    const abRest = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    const cdRest = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
    const width = f32x4.add(
      f32x4.mul(norms, v128.shuffle<i32>(ab, cd, 2, 3, 6, 7)),
      f32x4.mul(residuals, v128.shuffle<i32>(abRest, cdRest, 0, 1, 4, 5)),
    );
    const tailDots = dots(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(abRest, cdRest, 2, 3, 6, 7), highs);
    const dot = f32x4.add(headDots(terms, r0, r1, r2, r3, headHighs), tailDots);
    let mask = within(dot, width, least, most) & (index + 4 > count ? (1 << (count - index)) - 1 : 15);
    for (; mask != 0; mask &= mask - 1, chosen++) {
      const lane = ctz(mask);
      const entry = pairs + CHOSEN + 4 * chosen;
      store<u32>(entry, load<u32>(places + 4 * (index + lane)));
      store<i32>(entry, laneOf(headHighs, lane), HEAD_HIGHS);
      store<i32>(entry, laneOf(highs, lane), TAIL_HIGHS);
    }
  }
  return chosen;
}

/** The heads' part of four rows' dots by the high plane. */
// @ts-ignore: decorator
@inline
function headDots(terms: usize, r0: usize, r1: usize, r2: usize, r3: usize, highs: v128): v128 {
  const a = v128.load(terms + TERMS * r0);
  const b = v128.load(terms + TERMS * r1);
  const c = v128.load(terms + TERMS * r2);
  const d = v128.load(terms + TERMS * r3);
  const ab = v128.shuffle<i32>(a, b, 0, 4, 3, 7);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 3, 7);
  return dots(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7), highs);
}

/** Σ codes · high plane of four rows, one after another: what planeSums gives, in fewer steps, because six bits are widened two at a time. */
// @ts-ignore: decorator
@inline
function highSums(query: usize, stride: usize, p0: usize, p1: usize, p2: usize, p3: usize): v128 {
  const one = ones(stride);
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  for (const last = query + (stride & ~31); query < last; query += 32, p0 += 32, p1 += 32, p2 += 32, p3 += 32) {
    const six = v128.load(query);
    const next = v128.load(query, 16);
    a = plusTwo(a, v128.load(p0), six, v128.load(p0, 16), next, one);
    b = plusTwo(b, v128.load(p1), six, v128.load(p1, 16), next, one);
    c = plusTwo(c, v128.load(p2), six, v128.load(p2, 16), next, one);
    d = plusTwo(d, v128.load(p3), six, v128.load(p3, 16), next, one);
  }
  const sums = sumLanes(a, b, c, d);
  return stride & 16 ? i32x4.add(sums, planeSums(query, 16, 16, p0, p1, p2, p3)) : sums;
}

/** Σ codes · one plane of four rows, whose sixteens lie `step` bytes apart. */
function planeSums(query: usize, coordinates: usize, step: usize, p0: usize, p1: usize, p2: usize, p3: usize): v128 {
  const one = ones(coordinates);
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  for (const last = query + coordinates; query < last; query += 16, p0 += step, p1 += step, p2 += step, p3 += step) {
    const sixteen = v128.load(query);
    a = plus(a, v128.load(p0), sixteen, one);
    b = plus(b, v128.load(p1), sixteen, one);
    c = plus(c, v128.load(p2), sixteen, one);
    d = plus(d, v128.load(p3), sixteen, one);
  }
  return sumLanes(a, b, c, d);
}

/** A row by both planes, of the sums with each. */
// @ts-ignore: decorator
@inline
function settled(
  plane: usize, row: u32, headHigh: i32, headLow: i32, tailHigh: i32, tailLow: i32, slot: usize,
  high: f64, low: f64, written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const terms = field(plane, ROW_TERMS) + TERMS * row;
  const tailTerms = field(plane, TAIL_TERMS) + TERMS * row;
  // 128 h + l − 4096, exact in float64.
  const headSum = 128 * <f64>headHigh + <f64>headLow - 4096 * <f64>load<i32>(terms, 12);
  const tailSum = 128 * <f64>tailHigh + <f64>tailLow - 4096 * <f64>load<i32>(tailTerms, 12);
  return offered(tailTerms, row, <f64>load<f32>(terms) * headSum, tailSum, slot, high, low, written, outPlaces, outPairs);
}

// @ts-ignore: decorator
@inline
function added(sums: v128): i32 {
  return i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) +
    i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
}

/** Σ codes · query in standard SIMD. */
function wholeSum(query: usize, stride: usize, p: usize): f64 {
  let sum: f64 = 0;
  for (let last = p + stride; p < last; ) {
    const stop = min(last, p + SEGMENT);
    let sums = i32x4.splat(0);
    for (; p < stop; p += 16, query += 32) {
      sums = i32x4.add(sums, products(v128.load_ext<i8>(p), v128.load(query), v128.load_ext<i8>(p, 8), v128.load(query, 16)));
    }
    sum += <f64>added(sums);
  }
  return sum;
}

/** Writes a row of its head's dot and its tail's sum if its interval reaches a bound. */
// @ts-ignore: decorator
@inline
function offered(
  tailTerms: usize, row: u32, headDot: f64, tailSum: f64, slot: usize,
  high: f64, low: f64, written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const dot = headDot + <f64>load<f32>(tailTerms) * tailSum;
  const width = load<f64>(slot, RESIDUAL_FACTOR) * <f64>load<f32>(tailTerms, 8) +
    load<f64>(slot, NORM_FACTOR) * <f64>load<f32>(tailTerms, 4);
  return reaches(dot, width, high, low) ? put(row, dot, width, written, outPlaces, outPairs) : written;
}
