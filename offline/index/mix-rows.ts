/** Vectors as a mixing has them, in plain float64. */
import type { MixingDesign } from "./mixing.ts";
import { rowProducts } from "./row-products.ts";

/** Rows [count, R] balanced, and mixed, [count, R]: z = A⁻¹ p̃. The same for a row whichever others are with it. */
export const mixRows = ({ mixing, inverses }: MixingDesign, rows: Float64Array): Float64Array =>
  mixed(rows, inverses, mixing.places);

/**
 * Vectors [count, R] times the blocks' matrices, square and row-major one after another, each coordinate at its place. Each sum is
 * taken in the order of its coordinates.
 */
export function mixed(vectors: Float64Array, matrices: readonly Float64Array[], places: Uint32Array): Float64Array {
  const R = places.length;
  const count = vectors.length / R;
  const result = new Float64Array(vectors.length);
  let from = 0;
  for (const matrix of matrices) {
    const width = Math.sqrt(matrix.length);
    const part = new Float64Array(count * width);
    for (let row = 0; row < count; row++) {
      part.set(vectors.subarray(row * R + from, row * R + from + width), row * width);
    }
    const product = rowProducts(part, matrix, width);
    for (let row = 0; row < count; row++) {
      for (let j = 0; j < width; j++) result[row * R + places[from + j]!] = product[row * width + j]!;
    }
    from += width;
  }
  return result;
}
