/** A query balanced, rotated and quantised, with the factors of its intervals. See KernelExports.prepare in ../kernel.ts, and FORMAT.md. */
import { MIXED_HEAD, mix } from "./mix";
import {
  CODES, HEAD_HIGH_FACTOR, HEAD_SCALE_FACTOR, HIGH_FACTOR, NORM_FACTOR, RESIDUAL_FACTOR, TAIL_FACTOR, UNIT,
} from "./slot";

/** The integer coordinates' limit, and what makes them positive: 128 · high + low = integer + OFFSET. */
const LIMIT: f64 = 4095;
const OFFSET: i32 = 4096;
/** What stands for `low` where the high plane is used alone. */
const MIDDLE: f64 = 63.5;

export function prepare(
  values: usize, scales: usize, signs: usize, dimension: usize, stride: usize, rotated: usize, slot: usize,
  mixing: usize,
): u32 {
  let most = f64x2.splat(0);
  let finite = f64x2.splat(0);
  const pairs = dimension & ~1;
  for (let j: usize = 0; j < pairs; j += 2) {
    const value = f64x2.promote_low_f32x4(v128.load64_zero(values + 4 * j));
    finite = f64x2.add(finite, f64x2.mul(value, f64x2.splat(0)));
    const balanced = f64x2.mul(value, v128.load(scales + 8 * j));
    v128.store(rotated + 8 * j, balanced);
    most = f64x2.pmax(most, f64x2.abs(balanced));
  }
  if (pairs < dimension) {
    const value = <f64>load<f32>(values + 4 * pairs);
    finite = f64x2.add(finite, f64x2.splat(value * 0));
    const balanced = value * load<f64>(scales + 8 * pairs);
    store<f64>(rotated + 8 * pairs, balanced);
    most = f64x2.pmax(most, f64x2.splat(Math.abs(balanced)));
  }
  if (f64x2.extract_lane(finite, 0) + f64x2.extract_lane(finite, 1) != 0) return 2;
  const longest = larger(most);
  if (longest == 0) return 0;
  // A power of two brings the largest coordinate near one, so that no square overflows or vanishes; it rounds nothing.
  const near = reinterpret<f64>(max<u64>(reinterpret<u64>(longest) & 0x7ff0000000000000, 0x0010000000000000));
  const shrink = 1 / near;
  const shrinks = f64x2.splat(shrink);
  // One more than there are, perhaps: it is within the stride, and nothing reads it before it is set to zero.
  for (let at = rotated, stop = rotated + 8 * dimension; at < stop; at += 16) {
    v128.store(at, f64x2.mul(v128.load(at), shrinks));
  }
  const head: usize = mixing == 0 ? 0 : load<u32>(mixing, MIXED_HEAD);
  let mixed: f64 = 0;
  if (mixing != 0) {
    mixed = mix(rotated, dimension, mixing);
    signs += rotate(rotated, signs, head);
  }
  rotate(rotated + 8 * head, signs, dimension - head);

  const step = largestOf(rotated, dimension) / LIMIT;
  const codes = slot + CODES;
  quantise(rotated, 0, head, step, codes, stride);
  const headSquare = square;
  const headLower = lower;
  const headLeft = left;
  quantise(rotated, head, dimension, step, codes, stride);
  // The rows' padding is zero, so what the query has there never counts.
  for (let j = dimension; j < stride; j++) {
    store<f64>(rotated + 8 * j, 0);
    lay(codes, stride, j, OFFSET);
  }
  // All rounding together, relative to ‖q‖‖p‖: the ordered sum, refine, two rotations, the scan's own products.
  const rounding = <f64>(4 * dimension + 256) * (1.0 / 9007199254740992.0);
  const norm = Math.sqrt(headSquare + square) * (1 + rounding);
  store<f64>(slot, step * near, UNIT);
  store<f64>(slot, norm, RESIDUAL_FACTOR);
  store<f64>(slot, Math.sqrt(headLeft + left) * (1 + rounding) + norm * rounding + mixed / step * (1 + rounding), NORM_FACTOR);
  store<f64>(slot, Math.sqrt(headLower + lower) * (1 + rounding), HIGH_FACTOR);
  // A code is within half a unit of its coordinate, a little more where the scale was rounded.
  store<f64>(slot, Math.sqrt(headSquare * <f64>head) * 0.50001, HEAD_SCALE_FACTOR);
  store<f64>(slot, Math.sqrt(headLower) * (1 + rounding), HEAD_HIGH_FACTOR);
  store<f64>(slot, Math.sqrt(square) * (1 + rounding), TAIL_FACTOR);
  return 1;
}

// @ts-ignore: decorator
@inline
function larger(two: v128): f64 {
  return Math.max(f64x2.extract_lane(two, 0), f64x2.extract_lane(two, 1));
}

/** The largest magnitude of [dimension] float64. */
function largestOf(x: usize, dimension: usize): f64 {
  let most = f64x2.splat(0);
  const pairs = dimension & ~1;
  for (let at = x, stop = x + 8 * pairs; at < stop; at += 16) most = f64x2.pmax(most, f64x2.abs(v128.load(at)));
  return pairs < dimension ? Math.max(larger(most), Math.abs(load<f64>(x + 8 * pairs))) : larger(most);
}

/** What `quantise` leaves: Σ value², Σ (value − code)², Σ (low − 63.5)². */
let square: f64 = 0;
let left: f64 = 0;
let lower: f64 = 0;

/** Coordinates from … to − 1 in units of `step`, and their codes. */
function quantise(rotated: usize, from: usize, to: usize, step: f64, codes: usize, stride: usize): void {
  const steps = f64x2.splat(step);
  let squares = f64x2.splat(0);
  let lefts = f64x2.splat(0);
  // (2 low − 127)², within 32 bits for R ≤ 2¹⁷.
  let lowers = i32x4.splat(0);
  let j = from;
  for (const fours = from + ((to - from) & ~3); j < fours; j += 4) {
    const front = f64x2.div(v128.load(rotated + 8 * j), steps);
    const back = f64x2.div(v128.load(rotated + 8 * j, 16), steps);
    v128.store(rotated + 8 * j, front);
    v128.store(rotated + 8 * j, back, 16);
    const frontCode = f64x2.nearest(front);
    const backCode = f64x2.nearest(back);
    const frontLeft = f64x2.sub(front, frontCode);
    const backLeft = f64x2.sub(back, backCode);
    squares = f64x2.add(squares, f64x2.add(f64x2.mul(front, front), f64x2.mul(back, back)));
    lefts = f64x2.add(lefts, f64x2.add(f64x2.mul(frontLeft, frontLeft), f64x2.mul(backLeft, backLeft)));
    const whole = v128.shuffle<i32>(
      i32x4.trunc_sat_f64x2_s_zero(frontCode), i32x4.trunc_sat_f64x2_s_zero(backCode), 0, 1, 4, 5,
    );
    const shifted = i32x4.add(whole, i32x4.splat(OFFSET));
    const low = v128.and(shifted, i32x4.splat(127));
    const centred = i32x4.sub(i32x4.add(low, low), i32x4.splat(127));
    lowers = i32x4.add(lowers, i32x4.mul(centred, centred));
    if (ASC_FEATURE_RELAXED_SIMD) {
      const both = i16x8.narrow_i32x4_s(i32x4.shr_u(shifted, 7), low);
      const bytes = i8x16.narrow_i16x8_u(both, both);
      store<i32>(codes + j, i32x4.extract_lane(bytes, 0));
      store<i32>(codes + stride + j, i32x4.extract_lane(bytes, 1));
    } else {
      store<i64>(codes + 2 * j, i64x2.extract_lane(i16x8.narrow_i32x4_s(whole, whole), 0));
    }
  }
  square = f64x2.extract_lane(squares, 0) + f64x2.extract_lane(squares, 1);
  left = f64x2.extract_lane(lefts, 0) + f64x2.extract_lane(lefts, 1);
  lower = 0.25 * (<f64>i32x4.extract_lane(lowers, 0) + <f64>i32x4.extract_lane(lowers, 1) +
    <f64>i32x4.extract_lane(lowers, 2) + <f64>i32x4.extract_lane(lowers, 3));
  for (; j < to; j++) {
    const value = load<f64>(rotated + 8 * j) / step;
    const code = nearest(value);
    store<f64>(rotated + 8 * j, value);
    square += value * value;
    left += (value - code) * (value - code);
    const shifted = <i32>code + OFFSET;
    const low = <f64>(shifted & 127) - MIDDLE;
    lower += low * low;
    lay(codes, stride, j, shifted);
  }
}

/** Two planes of seven bits for the relaxed scan, sixteen bits for the other. */
// @ts-ignore: decorator
@inline
function lay(codes: usize, stride: usize, j: usize, shifted: i32): void {
  if (ASC_FEATURE_RELAXED_SIMD) {
    store<u8>(codes + j, <u8>(shifted >> 7));
    store<u8>(codes + stride + j, <u8>(shifted & 127));
  } else {
    store<i16>(codes + 2 * j, <i16>(shifted - OFFSET));
  }
}

/**
 * x ← T x of basis.ts: one transform where its coordinates are a power of two, else three of the largest power of two below. Returns how
 * many signs it took.
 */
function rotate(x: usize, signs: usize, dimension: usize): usize {
  const width: usize = 1 << (31 - clz<u32>(<u32>dimension));
  const rest = dimension - width;
  transform(x, signs, width);
  if (rest == 0) return width;
  transform(x + 8 * rest, signs + width, width);
  transform(x + 8 * (rest >> 1), signs + 2 * width, width);
  return 3 * width;
}

/** Signs, scale and the Walsh-Hadamard transform, two levels of butterflies at a time; sums are those of one level after another. */
function transform(x: usize, signs: usize, width: usize): void {
  const normal = 1 / Math.sqrt(<f64>width);
  const end = x + 8 * width;
  let half: usize = 8;
  if (width < 4) {
    for (let at = x; at < end; at += 8, signs++) store<f64>(at, load<f64>(at) * (<f64>load<i8>(signs) * normal));
  } else {
    const normals = f64x2.splat(normal);
    for (let at = x; at < end; at += 32, signs += 4) {
      const four = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(signs)));
      const last = v128.shuffle<i32>(four, four, 2, 3, 2, 3);
      const front = f64x2.mul(v128.load(at), f64x2.mul(f64x2.convert_low_i32x4_s(four), normals));
      const back = f64x2.mul(v128.load(at, 16), f64x2.mul(f64x2.convert_low_i32x4_s(last), normals));
      // (x0 + x1, x2 + x3) and (x0 − x1, x2 − x3).
      const even = v128.shuffle<f64>(front, back, 0, 2);
      const odd = v128.shuffle<f64>(front, back, 1, 3);
      const sums = f64x2.add(even, odd);
      const differences = f64x2.sub(even, odd);
      const first = v128.shuffle<f64>(sums, differences, 0, 2);
      const second = v128.shuffle<f64>(sums, differences, 1, 3);
      v128.store(at, f64x2.add(first, second));
      v128.store(at, f64x2.sub(first, second), 16);
    }
    half = 32;
  }
  for (; half < width << 2; half <<= 2) {
    for (let block = x; block < end; block += 4 * half) {
      for (let at = block, stop = block + half; at < stop; at += 16) {
        const x0 = v128.load(at);
        const x1 = v128.load(at + half);
        const x2 = v128.load(at + 2 * half);
        const x3 = v128.load(at + 3 * half);
        const a = f64x2.add(x0, x1);
        const b = f64x2.sub(x0, x1);
        const c = f64x2.add(x2, x3);
        const d = f64x2.sub(x2, x3);
        v128.store(at, f64x2.add(a, c));
        v128.store(at + half, f64x2.add(b, d));
        v128.store(at + 2 * half, f64x2.sub(a, c));
        v128.store(at + 3 * half, f64x2.sub(b, d));
      }
    }
  }
  if (half == 8 * width) return;
  // One level is left; of a width of two, all of it.
  for (let at = x, stop = x + half; at < stop; at += 8) {
    const a = load<f64>(at);
    const b = load<f64>(at + half);
    store<f64>(at, a + b);
    store<f64>(at + half, a - b);
  }
}
