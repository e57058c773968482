/** Vectors as a mixing has them, in plain float64. */
import type { MixingDesign } from "./mixing.ts";
import { rowProducts } from "./row-products.ts";

/**
 * Mixes at most `most` rows at a time, [count, R] balanced to [count, R]: z = A⁻¹ p̃, the same for a row whichever others are with it. What it
 * returns is valid until the next rows are mixed.
 */
export function openMixing({ mixing: { places }, inverses }: MixingDesign, most: number) {
  const room = openRoom(inverses, places.length, most);
  return (rows: Float64Array): Float64Array => mixInto(room, rows, inverses, places);
}

/**
 * Vectors [count, R] times the blocks' matrices, square and row-major one after another, each coordinate at its place. Each sum is
 * taken in the order of its coordinates.
 */
export function mixed(vectors: Float64Array, matrices: readonly Float64Array[], places: Uint32Array): Float64Array {
  return mixInto(openRoom(matrices, places.length, vectors.length / places.length), vectors, matrices, places);
}

interface Room {
  part: Float64Array;
  product: Float64Array;
  result: Float64Array;
}

function openRoom(matrices: readonly Float64Array[], R: number, count: number): Room {
  const widest = Math.max(...matrices.map(({ length }) => Math.sqrt(length)));
  const [part, product] = [new Float64Array(count * widest), new Float64Array(count * widest)];
  return { part, product, result: new Float64Array(count * R) };
}

function mixInto(
  room: Room,
  vectors: Float64Array,
  matrices: readonly Float64Array[],
  places: Uint32Array,
): Float64Array {
  const R = places.length;
  const count = vectors.length / R;
  const result = room.result.subarray(0, vectors.length);
  let from = 0;
  for (const matrix of matrices) {
    const width = Math.sqrt(matrix.length);
    const part = room.part.subarray(0, count * width);
    const product = room.product.subarray(0, count * width).fill(0);
    for (let row = 0; row < count; row++) {
      part.set(vectors.subarray(row * R + from, row * R + from + width), row * width);
    }
    rowProducts(part, matrix, width, false, product);
    for (let row = 0; row < count; row++) {
      for (let j = 0; j < width; j++) result[row * R + places[from + j]!] = product[row * width + j]!;
    }
    from += width;
  }
  return result;
}
