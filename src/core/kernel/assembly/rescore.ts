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

/** Four rows at a time, each summed in order: the order is part of what an influence is. */
export function exact(data: usize, dimension: usize, rows: usize, count: u32, query: usize, out: usize): void {
  const rowBytes = dimension << 2;
  for (let index: u32 = 0; index < count; index += 4) {
    let p0 = data + rowBytes * load<u32>(rows + 4 * index);
    let p1 = data + rowBytes * load<u32>(rows + 4 * min(index + 1, count - 1));
    let p2 = data + rowBytes * load<u32>(rows + 4 * min(index + 2, count - 1));
    let p3 = data + rowBytes * load<u32>(rows + 4 * min(index + 3, count - 1));
    let a: f64 = 0;
    let b: f64 = 0;
    let c: f64 = 0;
    let d: f64 = 0;
    for (let at = query, stop = query + 2 * rowBytes; at < stop; at += 8, p0 += 4, p1 += 4, p2 += 4, p3 += 4) {
      const q = load<f64>(at);
      a += <f64>load<f32>(p0) * q;
      b += <f64>load<f32>(p1) * q;
      c += <f64>load<f32>(p2) * q;
      d += <f64>load<f32>(p3) * q;
    }
    const to = out + 8 * index;
    store<f64>(to, a);
    if (index + 1 < count) store<f64>(to, b, 8);
    if (index + 2 < count) store<f64>(to, c, 16);
    if (index + 3 < count) store<f64>(to, d, 24);
  }
}
