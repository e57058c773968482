/** The tails of rows that their heads do not exclude: what then reaches a bound is written as KernelExports.scan writes it. */
import { put, reaches, sumLanes, TERMS } from "./candidates";
import { field, HEAD, LEFT_PAIRS, LEFT_PLACES, ROW_CODES, ROW_TERMS, STRIDE, TAIL_CODES, TAIL_TERMS } from "./plane";
import { laneOf, ones, plus, plusTwo } from "./scan-relaxed";
import { dot, SEGMENT } from "./scan-simd";
import { CODES, HIGH_FACTOR, NORM_FACTOR, RESIDUAL_FACTOR } from "./slot";

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
      written = weigh(plane, row, load<f64>(pairs + 16 * index), sum, slot, high, low, written, outPlaces, outPairs);
    }
    return written;
  }
  const last = count - 1;
  for (let index: u32 = 0; index < count; index += 4) {
    // Past the end of the list, its last row again.
    const p0 = codes + stride * load<u32>(places + 4 * index);
    const p1 = codes + stride * load<u32>(places + 4 * min(index + 1, last));
    const p2 = codes + stride * load<u32>(places + 4 * min(index + 2, last));
    const p3 = codes + stride * load<u32>(places + 4 * min(index + 3, last));
    const sums = highSums(slot + CODES + head, stride, p0, p1, p2, p3);
    const stop = min(index + 4, count);
    for (let at = index; at < stop; at++) {
      written = settle(
        plane, load<u32>(places + 4 * at), load<f64>(pairs + 16 * at), laneOf(sums, at - index), slot,
        high, low, written, outPlaces, outPairs,
      );
    }
  }
  return written;
}

/** Σ codes · high plane of four rows. */
// @ts-ignore: decorator
@inline
function highSums(query: usize, stride: usize, p0: usize, p1: usize, p2: usize, p3: usize): v128 {
  const one = ones(stride);
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  let at: usize = 0;
  for (const whole = stride & ~31; at < whole; at += 32) {
    const six = v128.load(query + at);
    const next = v128.load(query + at, 16);
    a = plusTwo(a, v128.load(p0 + at), six, v128.load(p0 + at, 16), next, one);
    b = plusTwo(b, v128.load(p1 + at), six, v128.load(p1 + at, 16), next, one);
    c = plusTwo(c, v128.load(p2 + at), six, v128.load(p2 + at, 16), next, one);
    d = plusTwo(d, v128.load(p3 + at), six, v128.load(p3 + at, 16), next, one);
  }
  if (at < stride) {
    const six = v128.load(query + at);
    a = plus(a, v128.load(p0 + at), six, one);
    b = plus(b, v128.load(p1 + at), six, one);
    c = plus(c, v128.load(p2 + at), six, one);
    d = plus(d, v128.load(p3 + at), six, one);
  }
  return sumLanes(a, b, c, d);
}

/** A row by the high plane's sums of its head and its tail; by the low plane too only where the high one does not exclude it. */
function settle(
  plane: usize, row: u32, headHigh: f64, tailHigh: i32, slot: usize,
  high: f64, low: f64, written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const terms = field(plane, ROW_TERMS) + TERMS * row;
  const tailTerms = field(plane, TAIL_TERMS) + TERMS * row;
  const scale = <f64>load<f32>(terms);
  const tailScale = <f64>load<f32>(tailTerms);
  const norm = <f64>load<f32>(terms, 4);
  const sum = <f64>load<i32>(terms, 12);
  const tailSum = <f64>load<i32>(tailTerms, 8);
  const width = load<f64>(slot, RESIDUAL_FACTOR) * <f64>load<f32>(tailTerms, 4) + load<f64>(slot, NORM_FACTOR) * norm;
  // 63.5 stands for the low plane: 128 h + 63.5 − 4096.
  const roughly = scale * (128 * headHigh - 4032.5 * sum) + tailScale * (128 * <f64>tailHigh - 4032.5 * tailSum);
  if (!reaches(roughly, width + load<f64>(slot, HIGH_FACTOR) * norm, high, low)) return written;

  const whole = field(plane, STRIDE);
  const head = field(plane, HEAD);
  const query = slot + CODES + whole;
  const one = ones(whole);
  let lows = i32x4.splat(0);
  let p = field(plane, ROW_CODES) + head * <usize>(row & ~3) + 16 * <usize>(row & 3);
  for (let at: usize = 0; at < head; at += 16, p += 64) lows = plus(lows, v128.load(p), v128.load(query + at), one);
  let tailLows = i32x4.splat(0);
  p = field(plane, TAIL_CODES) + (whole - head) * row;
  for (let at = head; at < whole; at += 16, p += 16) tailLows = plus(tailLows, v128.load(p), v128.load(query + at), one);
  // 128 h + l − 4096, exact in float64.
  const dots = scale * (128 * headHigh + <f64>added(lows) - 4096 * sum) +
    tailScale * (128 * <f64>tailHigh + <f64>added(tailLows) - 4096 * tailSum);
  return reaches(dots, width, high, low) ? put(row, dots, width, written, outPlaces, outPairs) : written;
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
      sums = i32x4.add(sums, dot(v128.load_ext<i8>(p), v128.load(query), v128.load_ext<i8>(p, 8), v128.load(query, 16)));
    }
    sum += <f64>added(sums);
  }
  return sum;
}

/** A row by its head's dot and its tail's sum. */
function weigh(
  plane: usize, row: u32, headDot: f64, tailSum: f64, slot: usize,
  high: f64, low: f64, written: u32, outPlaces: usize, outPairs: usize,
): u32 {
  const tailTerms = field(plane, TAIL_TERMS) + TERMS * row;
  const norm = <f64>load<f32>(field(plane, ROW_TERMS) + TERMS * row, 4);
  const width = load<f64>(slot, RESIDUAL_FACTOR) * <f64>load<f32>(tailTerms, 4) + load<f64>(slot, NORM_FACTOR) * norm;
  const dots = headDot + <f64>load<f32>(tailTerms) * tailSum;
  return reaches(dots, width, high, low) ? put(row, dots, width, written, outPlaces, outPairs) : written;
}
