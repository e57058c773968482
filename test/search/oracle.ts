/** The truth a search must reproduce, computed the plain way. */
import type { Neighbour } from "../../src/core/search.ts";

/** Σ_j row_j · query_j in float64, j ascending, for each row of `rows` (float32 [n, R]). */
export function bruteForceDots(rows: Float32Array, gradient: Float32Array): Float64Array {
  const R = gradient.length;
  return Float64Array.from({ length: rows.length / R }, (_, row) => {
    let sum = 0;
    for (let j = 0; j < R; j++) sum += rows[row * R + j] * gradient[j];
    return sum;
  });
}

/** The k most helpful and most harmful rows by sorting all of them; `filter` says which rows take part. */
export function bruteForce(
  rows: Float32Array,
  gradient: Float32Array,
  k: number,
  filter: (row: number) => boolean = () => true,
): { helpful: Neighbour[]; harmful: Neighbour[] } {
  const all = Array.from(bruteForceDots(rows, gradient), (dot, row) => ({ row, influence: -dot })).filter(({ row }) =>
    filter(row),
  );
  const helpful = all
    .filter(({ influence }) => influence < 0)
    .sort((a, b) => a.influence - b.influence || a.row - b.row);
  const harmful = all
    .filter(({ influence }) => influence > 0)
    .sort((a, b) => b.influence - a.influence || a.row - b.row);
  return { helpful: helpful.slice(0, k), harmful: harmful.slice(0, k) };
}
