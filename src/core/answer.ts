/** One query answered by one call of the kernel, where the rows that it needs are in memory. */
import { MOST_RANKED } from "./kernel/kernel.ts";
import { quantiseQuery, slotAt } from "./query.ts";
import { CHUNK_ROWS, type Resident } from "./resident.ts";
import { placeFilter, readBy } from "./scan.ts";
import type { Neighbour } from "./topk.ts";

/** Both ends, and what it took. */
export interface Ranked {
  helpful: Neighbour[];
  harmful: Neighbour[];
  /** Truths that were computed, all of rows in memory: those whose interval reached the k-th best. */
  rescored: number;
  scanned: number;
  codeBytes: number;
}

/**
 * The k ≤ MOST_RANKED best of both ends for `gradient` ([R] float32), of all rows or those of the bitmap `filter`. Null where that
 * cannot be: a larger k, too many candidates, or a row that is not in memory. Throws as prepareQuery does.
 */
export function answerHeld(
  resident: Resident,
  gradient: Float32Array,
  k: number,
  filter: Uint8Array | null,
): Ranked | null {
  const { n, dimension, exact, order, kernel, at, doubles, words } = resident;
  if (k > MOST_RANKED || exact === 0) return null;
  if (!quantiseQuery(resident, gradient, 0)) {
    return { helpful: [], harmful: [], rescored: 0, scanned: 0, codeBytes: 0 };
  }
  if (filter !== null) placeFilter(resident, filter);
  const slot = slotAt(resident, 0);
  const rescored = kernel.answer(
    slot,
    n,
    k,
    at.heaps,
    at.ceilings,
    at.plane,
    filter === null ? 0 : at.filter,
    at.rowList,
    at.pairs,
    CHUNK_ROWS,
    order.byteOffset,
    at.second,
    exact,
    dimension,
    at.values,
  );
  if (rescored < 0) return null;
  const ranked = (first: number, count: number): Neighbour[] => {
    const neighbours: Neighbour[] = [];
    for (let entry = at.pairs / 8 + 2 * first, end = entry + 2 * count; entry < end; entry += 2) {
      neighbours.push({ row: words[2 * entry + 2], influence: doubles[entry] });
    }
    return neighbours;
  };
  const [helpful, harmful] = [words[at.rowList / 4], words[at.rowList / 4 + 1]];
  const { scanned, codeBytes } = readBy(resident, slot);
  return { helpful: ranked(0, helpful), harmful: ranked(helpful, harmful), rescored, scanned, codeBytes };
}
