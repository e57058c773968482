/** The answers that must come: influence by brute force in float64 from the published bytes. */
import { FILES } from "../../src/core/manifest.ts";
import { fileOf, type Which } from "./bucket.ts";

export const R = 32;

export function floatsOf(which: Which, file: "rows.f32" | "queries.f32"): Float32Array {
  return new Float32Array(fileOf(which, file).slice().buffer);
}

/** The compressed gradient of stored query `row`. */
export function queryOf(which: Which, row: number): Float32Array {
  return floatsOf(which, FILES.queries).slice(R * row, R * (row + 1));
}

/** Both lists: rows and influences, −q·p, the strongest first. */
export function bruteForce(which: Which, query: Float32Array, topK: number) {
  const rows = floatsOf(which, FILES.rows);
  const all = Array.from({ length: rows.length / R }, (_, row) => {
    let dot = 0;
    for (let j = 0; j < R; j++) dot += rows[R * row + j] * query[j];
    return { id: `train-${row}`, influence: -dot };
  }).sort((a, b) => a.influence - b.influence);
  return { helpful: all.slice(0, topK), harmful: all.reverse().slice(0, topK) };
}
