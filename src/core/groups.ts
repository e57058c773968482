/** Which part of the training set: influence summed over groups of rows by one full scan. */
import type { PreparedQuery } from "./query.ts";
import type { Resident } from "./resident.ts";
import { exactDots, narrow, scanAll } from "./scan.ts";

/** [count] each, by group. The mean of a group is sum / count. */
export interface GroupSums {
  /** Σ influence of the group's rows. */
  sum: Float64Array;
  /** Rows of the group that took part. */
  count: Uint32Array;
  /** The sum differs from that of the float32 rows' influences by at most this: 0 up to rounding where full rows are resident. */
  error: Float64Array;
}

/**
 * Sums over the rows of the bitmap `filter`, or all. `groups` [n]: each row's group, 0 … count − 1; a row of another value is in none.
 * `query` null: orthogonal to every row. Throws RangeError if `groups` has another length than n.
 */
export function sumGroups(
  resident: Resident,
  query: PreparedQuery | null,
  groups: ArrayLike<number>,
  count: number,
  filter: Uint8Array | null,
): GroupSums {
  const { n, held, order, exact } = resident;
  if (groups.length !== n) throw new RangeError(`groups: expected one of each of ${n} rows, got ${groups.length}`);
  const sums = { sum: new Float64Array(count), count: new Uint32Array(count), error: new Float64Array(count) };
  const has = (row: number) => filter === null || ((filter[row >> 3] >> (row & 7)) & 1) === 1;
  for (let row = 0; row < n; row++) if (groups[row] in sums.count && has(row)) sums.count[groups[row]]++;
  if (query === null) return sums;
  scanAll(resident, query, filter, (part) => {
    const known = part.places.filter((place) => place < exact);
    exactDots(resident, query, known).forEach((dot, index) => {
      const group = groups[order[known[index]]];
      if (group in sums.count) sums.sum[group] -= dot;
    });
    const open = (_: number, index: number) => part.places[index] >= exact;
    const rest = { places: part.places.filter(open), dots: part.dots.filter(open), widths: part.widths.filter(open) };
    const { places, dots, widths } = held === "fine" ? narrow(resident, query, rest) : rest;
    places.forEach((place, index) => {
      const group = groups[order[place]];
      if (!(group in sums.count)) return;
      sums.sum[group] -= dots[index] * query.unit;
      sums.error[group] += widths[index] * query.unit;
    });
  });
  return sums;
}
