/** A sample of an index's rows, taken while they stream by and before anybody knows how many there will be. */

/** Gradients and the rows made of them, as pairs: [m, R] float32 each. */
export interface Typical {
  gradients: Float32Array;
  rows: Float32Array;
}

/** At most so many pairs are kept … */
const MOST_PAIRS = 8192;
/** … in at most so many bytes, both arrays together. */
const MOST_BYTES = 2 ** 26;

export interface TypicalSample {
  /** Offers row number `row` (0, 1, 2, …): its gradient [R] and its preconditioned gradient [R], which are copied if kept. */
  add(row: number, gradient: Float32Array, preconditioned: Float32Array): void;
  /** Of the pairs kept, half as many as there is room for, evenly chosen, or all where there are fewer; by row number. The last call: it takes the others away. */
  rows(): Typical;
}

/**
 * Keeps the rows whose number is a multiple of 2^k. Whenever the sample is full, k grows by one and every other pair goes, so
 * which rows are kept depends on how many were offered and on nothing else.
 */
export function openTypical(R: number): TypicalSample {
  const most = Math.max(1, Math.min(MOST_PAIRS, Math.floor(MOST_BYTES / (8 * R))));
  const gradients = new Float32Array(most * R);
  const rows = new Float32Array(most * R);
  let kept = 0;
  let stride = 1;
  const halve = () => {
    stride *= 2;
    kept = Math.ceil(kept / 2);
    for (let i = 1; i < kept; i++) {
      gradients.copyWithin(i * R, 2 * i * R, (2 * i + 1) * R);
      rows.copyWithin(i * R, 2 * i * R, (2 * i + 1) * R);
    }
  };
  return {
    add(row, gradient, preconditioned) {
      while (row % stride === 0 && kept === most) halve();
      if (row % stride !== 0) return;
      gradients.set(gradient, kept * R);
      rows.set(preconditioned, kept * R);
      kept++;
    },
    // Between half and all of the room is taken, by n: what comes of it should neither differ nor take another amount of memory.
    rows() {
      const count = Math.min(kept, Math.ceil(most / 2));
      for (let i = 0; i < count; i++) {
        const from = Math.floor((i * kept) / count) * R;
        gradients.copyWithin(i * R, from, from + R);
        rows.copyWithin(i * R, from, from + R);
      }
      kept = count;
      return { gradients: gradients.subarray(0, count * R), rows: rows.subarray(0, count * R) };
    },
  };
}
