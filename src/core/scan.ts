/** Driving the kernel: the coarse scan of one query or many, finer intervals, and the truths of resident rows. */

import { SLOT } from "./kernel/kernel.ts";
import { COARSE_TERMS, coarseLayout, FINE_TERMS, fineLayout, strideOf } from "./plane.ts";
import { type PreparedQuery, prepareQuery, slotAt } from "./query.ts";
import { CHUNK_ROWS, HEAP_VALUES, QUERIES_AT_ONCE, type Resident } from "./resident.ts";
import { type Candidates, keepReaching, prune } from "./topk.ts";

/** Bytes of codes that stay in the processor's second-level cache while a batch of queries is multiplied with them. */
const CACHED_BYTES = 192 * 1024;

/**
 * Candidates that the queries of one scan may hold together, some 30 MB; a single query may hold one for each row. Bounds that
 * exclude little, or a large k of many queries, would otherwise take n for each of 256 queries.
 */
const MOST_CANDIDATES = 1_000_000;

/** One query's state during a scan; the rest of it is in its slot. */
interface Scanning {
  address: number;
  heaps: number;
  found: Candidates;
}

export interface Scanned {
  /** The rows whose interval reaches the k-th best of an end. */
  candidates: Candidates;
  /** Places that were scanned: all, or the longest rows until the next could not matter. */
  scanned: number;
  /** Bytes of codes that were read for this query. */
  codeBytes: number;
}

/** Whether the heaps have room for the k best of a query; a larger k goes without bounds, and is cut to size afterwards. */
const bounded = (k: number): boolean => 2 * k <= HEAP_VALUES;

/** Queries that one scan takes. */
export const queriesAtOnce = (k: number): number =>
  bounded(k) ? Math.min(QUERIES_AT_ONCE, Math.floor(HEAP_VALUES / (2 * k))) : QUERIES_AT_ONCE;

/**
 * Scans all rows, or those of the bitmap `filter`, for at most queriesAtOnce(k) queries that are prepared in slots of their own, each row read once from memory. A
 * query leaves the scan when ‖q‖ times the longest norm ahead reaches neither bound. Returns what it found for each query, in order, or
 * only for the first ones, at least one, where all together would hold more than `most` candidates.
 */
export function scan(
  resident: Resident,
  queries: readonly PreparedQuery[],
  k: number,
  filter: Uint8Array | null,
  most = MOST_CANDIDATES,
): Scanned[] {
  const { n, dimension, kernel, at, doubles, words } = resident;
  const kept = bounded(k) ? k : 0;
  const states = queries.map(({ slot }, index): Scanning => {
    const address = slotAt(resident, slot);
    doubles.fill(0, (address + SLOT.high) / 8, (address + SLOT.low) / 8 + 1);
    words[(address + SLOT.tails) / 4] = 0;
    words.fill(0, (address + SLOT.place) / 4, (address + SLOT.lowCount) / 4 + 1);
    words[(address + SLOT.open) / 4] = 1;
    return { address, heaps: at.heaps + 16 * kept * index, found: { places: [], dots: [], widths: [] } };
  });
  if (filter !== null) placeFilter(resident, filter);
  const stride = strideOf(dimension);
  const isOpen = ({ address }: Scanning) => words[(address + SLOT.open) / 4] === 1;
  const placeOf = ({ address }: Scanning) => words[(address + SLOT.place) / 4];
  const part = states.length === 1 ? n : Math.max(8, Math.floor(CACHED_BYTES / stride / 8) * 8);
  for (let until = Math.min(part, n); ; until = Math.min(until + part, n)) {
    let open = false;
    for (const state of states) {
      while (isOpen(state) && placeOf(state) < until) {
        const written = kernel.sweep(
          state.address,
          until,
          n,
          kept,
          state.heaps,
          at.ceilings,
          at.plane,
          filter === null ? 0 : at.filter,
          at.rowList,
          at.pairs,
          CHUNK_ROWS,
        );
        take(resident, written, state.found);
      }
      open ||= isOpen(state);
    }
    forgo(resident, states, most);
    if (!open || until === n) break;
  }
  return states.map((state) => ({
    candidates: kept === 0 ? prune(state.found, k) : reaching(resident, state),
    ...readBy(resident, state.address),
  }));
}

/** Adds what the kernel has written to `found`. */
function take({ at, words, doubles }: Resident, written: number, { places, dots, widths }: Candidates): void {
  for (let entry = 0; entry < written; entry++) {
    places.push(words[at.rowList / 4 + entry]);
    dots.push(doubles[at.pairs / 8 + 2 * entry]);
    widths.push(doubles[at.pairs / 8 + 2 * entry + 1]);
  }
}

/** What a scan has read for the query in a slot. */
export function readBy({ dimension, head, words }: Resident, slot: number): { scanned: number; codeBytes: number } {
  const stride = strideOf(dimension);
  const scanned = words[(slot + SLOT.place) / 4];
  const tails = head === 0 ? scanned : words[(slot + SLOT.tails) / 4];
  return { scanned, codeBytes: head * scanned + (stride - head) * tails };
}

/** What a query has found and its bounds do not exclude by now. */
function reaching({ doubles }: Resident, { address, found }: Scanning): Candidates {
  return keepReaching(found, doubles[(address + SLOT.high) / 8], -doubles[(address + SLOT.low) / 8]);
}

/** Drops candidates that the bounds exclude by now, and then the last queries' states, until at most `most` are held, or one query's. */
function forgo(resident: Resident, states: Scanning[], most: number): void {
  const held = () => states.reduce((sum, { found }) => sum + found.places.length, 0);
  if (states.length === 1 || held() <= most) return;
  for (const state of states) state.found = reaching(resident, state);
  while (states.length > 1 && held() > most) states.length = Math.ceil(states.length / 2);
}

/** Visits every row of the bitmap `filter`, or all, in parts: its dot and the width of its interval. Rows of zeros may be left out. */
export function scanAll(
  resident: Resident,
  query: PreparedQuery,
  filter: Uint8Array | null,
  visit: (part: Candidates) => void,
): void {
  const { n, kernel, at } = resident;
  if (filter !== null) placeFilter(resident, filter);
  for (let first = 0; first < n; first += CHUNK_ROWS) {
    const written = kernel.scan(
      at.plane,
      first,
      Math.min(CHUNK_ROWS, n - first),
      slotAt(resident, query.slot),
      // Bounds of zero exclude only what is zero for certain.
      0,
      0,
      filter === null ? 0 : at.filter,
      at.rowList,
      at.pairs,
    );
    const part: Candidates = { places: [], dots: [], widths: [] };
    take(resident, written, part);
    visit(part);
  }
}

/** Puts a bitmap of rows into the kernel's memory, as a bitmap of places. */
export function placeFilter({ n, kernel, at, order }: Resident, filter: Uint8Array): void {
  const target = new Uint8Array(kernel.memory.buffer, at.filter, filter.length);
  target.fill(0);
  for (let place = 0; place < n; place++) {
    const row = order[place];
    target[place >> 3] |= ((filter[row >> 3] >> (row & 7)) & 1) << (place & 7);
  }
}

/** The candidates' intervals with the fine plane added. */
export function narrow(resident: Resident, query: PreparedQuery, candidates: Candidates): Candidates {
  const { n, head, kernel, at, dimension, floats } = resident;
  const fine = fineLayout(n, dimension);
  const [norms, residuals] = [at.coarse + coarseLayout(n, dimension, head).termsAt, at.second + fine.termsAt];
  // Other queries may have been prepared since: brings this one's rotated coordinates back.
  prepareQuery(resident, query.values, query.slot);
  const left = inChunks(resident, candidates.places, (rows, count, out) =>
    kernel.refine(residuals, at.second + fine.codesAt, strideOf(dimension), rows, count, at.rotated, out),
  );
  return {
    places: candidates.places,
    dots: candidates.dots.map((dot, index) => dot + left[index]),
    widths: candidates.places.map(
      (place) =>
        query.residualFactor * floats[(residuals + place * FINE_TERMS) / 4 + 1] +
        query.normFactor * floats[(norms + place * COARSE_TERMS) / 4 + 1],
    ),
  };
}

/** The truths of rows that are resident, by their places, all less than `exact`. */
export function exactDots(resident: Resident, query: PreparedQuery, places: readonly number[]): number[] {
  const { kernel, at, dimension, held, order, floats } = resident;
  // rows.f32 goes by row, long.f32 by place.
  const rows = held === "rows" ? places.map((place) => order[place]) : places;
  floats.set(query.values, at.values / 4);
  return inChunks(resident, rows, (list, count, out) =>
    kernel.exact(at.second, dimension, list, count, at.values, out),
  );
}

/** Lets the kernel give one float64 for each row, CHUNK_ROWS at a time. */
function inChunks(
  { at, words, doubles }: Resident,
  rows: readonly number[],
  run: (rows: number, count: number, out: number) => void,
): number[] {
  const dots: number[] = [];
  for (let first = 0; first < rows.length; first += CHUNK_ROWS) {
    const count = Math.min(CHUNK_ROWS, rows.length - first);
    for (let index = 0; index < count; index++) words[at.rowList / 4 + index] = rows[first + index];
    run(at.rowList, count, at.pairs);
    for (let index = 0; index < count; index++) dots.push(doubles[at.pairs / 8 + index]);
  }
  return dots;
}
