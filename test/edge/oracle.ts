/** The answers that must come: influence by brute force in float64 from the published bytes. */
import { FILES } from "../../src/core/manifest.ts";
import { fileOf, type Which } from "./bucket.ts";

/** The coordinates of every index but `mixed`, which has its own. */
export const R = 32;
const dimensionOf = (which: Which): number => (which === "mixed" ? 64 : R);

export function floatsOf(which: Which, file: "rows.f32" | "queries.f32"): Float32Array {
  return new Float32Array(fileOf(which, file).slice().buffer);
}

/** The compressed gradient of stored query `row`. */
export function queryOf(which: Which, row: number): Float32Array {
  const width = dimensionOf(which);
  return floatsOf(which, FILES.queries).slice(width * row, width * (row + 1));
}

/** −q·p of every row, in float64. */
export function influences(which: Which, query: Float32Array): number[] {
  const rows = floatsOf(which, FILES.rows);
  const width = dimensionOf(which);
  return Array.from({ length: rows.length / width }, (_, row) => {
    let dot = 0;
    for (let j = 0; j < width; j++) dot += rows[width * row + j] * query[j];
    return -dot;
  });
}

/** Both lists, the strongest first: ids and influences of the rows that `counts` lets through. */
export function bruteForce(which: Which, query: Float32Array, topK: number, counts = (_row: number) => true) {
  const all = influences(which, query)
    .map((influence, row) => ({ id: `train-${row}`, influence }))
    .filter((_, row) => counts(row))
    .sort((a, b) => a.influence - b.influence);
  return {
    helpful: all.filter(({ influence }) => influence < 0).slice(0, topK),
    harmful: all
      .reverse()
      .filter(({ influence }) => influence > 0)
      .slice(0, topK),
  };
}
