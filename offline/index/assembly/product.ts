/** Inner products of the rows of two small matrices in float64, for row-products.ts. */

/** Rows of the left matrix that are taken together, two a vector, and of the right one: sixteen sums stay in registers. */
const FOUR: usize = 4;

/**
 * Adds to each sum in `products`, [b, a]: the row of `left`, [a, k], times the row of `right`, [b, k], in the order of the coordinates and
 * without fused operations: the same bytes on every machine. All float64, row-major; a and b are multiples of four. `panel`: room for 4 k.
 */
export function addProducts(left: usize, right: usize, products: usize, panel: usize, a: usize, b: usize, k: usize): void {
  const row: usize = k * 8;
  for (let i: usize = 0; i < a; i += FOUR) {
    // The four rows side by side, so that one load has two of them.
    const first = left + i * row;
    for (let c: usize = 0; c < row; c += 8) {
      const to = panel + 4 * c;
      store<f64>(to, load<f64>(first + c));
      store<f64>(to, load<f64>(first + row + c), 8);
      store<f64>(to, load<f64>(first + 2 * row + c), 16);
      store<f64>(to, load<f64>(first + 3 * row + c), 24);
    }
    for (let j: usize = 0; j < b; j += FOUR) {
      const at = products + 8 * (j * a + i);
      const down: usize = a * 8;
      let front0 = v128.load(at);
      let back0 = v128.load(at, 16);
      let front1 = v128.load(at + down);
      let back1 = v128.load(at + down, 16);
      let front2 = v128.load(at + 2 * down);
      let back2 = v128.load(at + 2 * down, 16);
      let front3 = v128.load(at + 3 * down);
      let back3 = v128.load(at + 3 * down, 16);
      const line = right + j * row;
      let pair = panel;
      for (let c: usize = 0; c < row; c += 8, pair += 32) {
        const front = v128.load(pair);
        const back = v128.load(pair, 16);
        const y0 = v128.load64_splat(line + c);
        const y1 = v128.load64_splat(line + row + c);
        const y2 = v128.load64_splat(line + 2 * row + c);
        const y3 = v128.load64_splat(line + 3 * row + c);
        front0 = f64x2.add(front0, f64x2.mul(front, y0));
        back0 = f64x2.add(back0, f64x2.mul(back, y0));
        front1 = f64x2.add(front1, f64x2.mul(front, y1));
        back1 = f64x2.add(back1, f64x2.mul(back, y1));
        front2 = f64x2.add(front2, f64x2.mul(front, y2));
        back2 = f64x2.add(back2, f64x2.mul(back, y2));
        front3 = f64x2.add(front3, f64x2.mul(front, y3));
        back3 = f64x2.add(back3, f64x2.mul(back, y3));
      }
      v128.store(at, front0);
      v128.store(at, back0, 16);
      v128.store(at + down, front1);
      v128.store(at + down, back1, 16);
      v128.store(at + 2 * down, front2);
      v128.store(at + 2 * down, back2, 16);
      v128.store(at + 3 * down, front3);
      v128.store(at + 3 * down, back3, 16);
    }
  }
}
