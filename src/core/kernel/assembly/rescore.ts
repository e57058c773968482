/** Dots of chosen rows: of the fine plane with the query as it is, and the truth from the float32 rows. See ../kernel.ts. */

/** Bytes of a row's terms in the fine plane: f32 scale, f32 residual norm. */
const TERMS: usize = 8;

export function refine(
  terms: usize, codes: usize, stride: usize, rows: usize, count: u32, query: usize, out: usize,
): void {
  for (let index: u32 = 0; index < count; index++) {
    const row = load<u32>(rows + 4 * index);
    const scale = <f64>load<f32>(terms + TERMS * row);
    store<f64>(out + 8 * index, scale * sum(codes + stride * row, stride, query));
  }
}

/** Σ_j code_j · query_j, the query float64. */
function sum(codes: usize, stride: usize, query: usize): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let c = f64x2.splat(0);
  let d = f64x2.splat(0);
  for (const stop = codes + stride; codes < stop; codes += 8, query += 64) {
    const eight = v128.load_ext<i8>(codes);
    const low = i32x4.extend_low_i16x8_s(eight);
    const high = i32x4.extend_high_i16x8_s(eight);
    a = f64x2.add(a, f64x2.mul(f64x2.convert_low_i32x4_s(low), v128.load(query)));
    b = f64x2.add(b, f64x2.mul(f64x2.convert_low_i32x4_s(v128.shuffle<i32>(low, low, 2, 3, 2, 3)), v128.load(query, 16)));
    c = f64x2.add(c, f64x2.mul(f64x2.convert_low_i32x4_s(high), v128.load(query, 32)));
    d = f64x2.add(d, f64x2.mul(f64x2.convert_low_i32x4_s(v128.shuffle<i32>(high, high, 2, 3, 2, 3)), v128.load(query, 48)));
  }
  const all = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  return f64x2.extract_lane(all, 0) + f64x2.extract_lane(all, 1);
}

/** Eight rows at a time, two in a vector, each summed in order: the order is part of what an influence is. */
export function exact(data: usize, dimension: usize, rows: usize, count: u32, query: usize, out: usize): void {
  const rowBytes = dimension << 2;
  const whole = rowBytes & ~15;
  for (let index: u32 = 0; index < count; index += 8) {
    const p0 = rowAt(data, rowBytes, rows, index, count);
    const p1 = rowAt(data, rowBytes, rows, index + 1, count);
    const p2 = rowAt(data, rowBytes, rows, index + 2, count);
    const p3 = rowAt(data, rowBytes, rows, index + 3, count);
    const p4 = rowAt(data, rowBytes, rows, index + 4, count);
    const p5 = rowAt(data, rowBytes, rows, index + 5, count);
    const p6 = rowAt(data, rowBytes, rows, index + 6, count);
    const p7 = rowAt(data, rowBytes, rows, index + 7, count);
    let a = f64x2.splat(0);
    let b = f64x2.splat(0);
    let c = f64x2.splat(0);
    let d = f64x2.splat(0);
    let at: usize = 0;
    for (; at < whole; at += 16) {
      const q = v128.load(query + at);
      const q0 = f64x2.promote_low_f32x4(v128.shuffle<f32>(q, q, 0, 0, 0, 0));
      const q1 = f64x2.promote_low_f32x4(v128.shuffle<f32>(q, q, 1, 1, 1, 1));
      const q2 = f64x2.promote_low_f32x4(v128.shuffle<f32>(q, q, 2, 2, 2, 2));
      const q3 = f64x2.promote_low_f32x4(v128.shuffle<f32>(q, q, 3, 3, 3, 3));
      a = addFour(a, v128.load(p0 + at), v128.load(p1 + at), q0, q1, q2, q3);
      b = addFour(b, v128.load(p2 + at), v128.load(p3 + at), q0, q1, q2, q3);
      c = addFour(c, v128.load(p4 + at), v128.load(p5 + at), q0, q1, q2, q3);
      d = addFour(d, v128.load(p6 + at), v128.load(p7 + at), q0, q1, q2, q3);
    }
    for (; at < rowBytes; at += 4) {
      const q = f64x2.splat(<f64>load<f32>(query + at));
      a = f64x2.add(a, f64x2.mul(two(p0 + at, p1 + at), q));
      b = f64x2.add(b, f64x2.mul(two(p2 + at, p3 + at), q));
      c = f64x2.add(c, f64x2.mul(two(p4 + at, p5 + at), q));
      d = f64x2.add(d, f64x2.mul(two(p6 + at, p7 + at), q));
    }
    // Past the end there is room: `out` holds whole eights.
    const to = out + 8 * index;
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
  }
}

/** Where a listed row begins; past the list's end, its last row. */
// @ts-ignore: decorator
@inline
function rowAt(data: usize, rowBytes: usize, rows: usize, index: u32, count: u32): usize {
  return data + rowBytes * <usize>load<u32>(rows + 4 * min(index, count - 1));
}

/** Adds the products of four coordinates of two rows, one coordinate after another. */
// @ts-ignore: decorator
@inline
function addFour(sums: v128, one: v128, other: v128, q0: v128, q1: v128, q2: v128, q3: v128): v128 {
  const front = v128.shuffle<f32>(one, other, 0, 4, 1, 5);
  const back = v128.shuffle<f32>(one, other, 2, 6, 3, 7);
  sums = f64x2.add(sums, f64x2.mul(f64x2.promote_low_f32x4(front), q0));
  sums = f64x2.add(sums, f64x2.mul(f64x2.promote_low_f32x4(v128.shuffle<f32>(front, front, 2, 3, 2, 3)), q1));
  sums = f64x2.add(sums, f64x2.mul(f64x2.promote_low_f32x4(back), q2));
  return f64x2.add(sums, f64x2.mul(f64x2.promote_low_f32x4(v128.shuffle<f32>(back, back, 2, 3, 2, 3)), q3));
}

// @ts-ignore: decorator
@inline
function two(one: usize, other: usize): v128 {
  return f64x2.replace_lane(f64x2.splat(<f64>load<f32>(one)), 1, <f64>load<f32>(other));
}
