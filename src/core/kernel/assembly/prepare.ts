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
  let largest: f64 = 0;
  let finite: f64 = 0;
  for (let j: usize = 0; j < dimension; j++) {
    const value = <f64>load<f32>(values + 4 * j);
    finite += value * 0;
    const balanced = value * load<f64>(scales + 8 * j);
    store<f64>(rotated + 8 * j, balanced);
    largest = max(largest, Math.abs(balanced));
  }
  if (finite != 0) return 2;
  if (largest == 0) return 0;
  // A power of two brings the largest coordinate near one, so that no square overflows or vanishes; it rounds nothing.
  const near = reinterpret<f64>(max<u64>(reinterpret<u64>(largest) & 0x7ff0000000000000, 0x0010000000000000));
  for (let j: usize = 0; j < dimension; j++) {
    store<f64>(rotated + 8 * j, load<f64>(rotated + 8 * j) / near);
  }
  const head: usize = mixing == 0 ? 0 : load<u32>(mixing, MIXED_HEAD);
  let mixed: f64 = 0;
  if (mixing != 0) {
    mixed = mix(rotated, dimension, mixing);
    signs += rotate(rotated, signs, head);
  }
  rotate(rotated + 8 * head, signs, dimension - head);

  largest = 0;
  for (let j: usize = 0; j < dimension; j++) largest = max(largest, Math.abs(load<f64>(rotated + 8 * j)));
  const step = largest / LIMIT;
  let square: f64 = 0;
  let left: f64 = 0;
  let lower: f64 = 0;
  let headSquare: f64 = 0;
  let headLower: f64 = 0;
  const codes = slot + CODES;
  for (let j: usize = 0; j < dimension; j++) {
    if (j == head) {
      headSquare = square;
      headLower = lower;
      square = 0;
      lower = 0;
    }
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
  store<f64>(slot, Math.sqrt(left) * (1 + rounding) + norm * rounding + mixed / step * (1 + rounding), NORM_FACTOR);
  store<f64>(slot, Math.sqrt(headLower + lower) * (1 + rounding), HIGH_FACTOR);
  // A code is within half a unit of its coordinate, a little more where the scale was rounded.
  store<f64>(slot, Math.sqrt(headSquare * <f64>head) * 0.50001, HEAD_SCALE_FACTOR);
  store<f64>(slot, Math.sqrt(headLower) * (1 + rounding), HEAD_HIGH_FACTOR);
  store<f64>(slot, Math.sqrt(square) * (1 + rounding), TAIL_FACTOR);
  return 1;
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
  for (let j: usize = 0; j < width; j++) {
    store<f64>(x + 8 * j, load<f64>(x + 8 * j) * (<f64>load<i8>(signs + j) * normal));
  }
  const end = x + 8 * width;
  let half: usize = 8;
  if (width >= 4) {
    for (let at = x; at < end; at += 32) {
      const front = v128.load(at);
      const back = v128.load(at, 16);
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
