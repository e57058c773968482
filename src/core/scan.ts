/** Driving the kernel: the coarse scan of one query or many, finer intervals, and the truths of resident rows. */

import { queryBytes } from "./kernel/kernel.ts";
import { COARSE_TERMS, coarseLayout, FINE_TERMS, fineLayout, strideOf } from "./plane.ts";
import type { PreparedQuery } from "./query.ts";
import { writeQuery } from "./query.ts";
import { CHUNK_ROWS, QUERIES_AT_ONCE, type Resident, STEP_ROWS } from "./resident.ts";
import { type Best, type Candidates, keepReaching, kthLargest } from "./topk.ts";

/** Bytes of codes that stay in the processor's second-level cache while a batch of queries is multiplied with them. */
const CACHED_BYTES = 192 * 1024;

/** Steps that one call of the kernel scans at most: bounds are brought up to date, and a scan may stop, after each. */
const MOST_STEPS = 4;

/**
 * Candidates that the queries of one scan may hold together, some 30 MB; a single query may hold one for each row. Bounds that
 * exclude little, or a large k of many queries, would otherwise take n for each of 256 queries.
 */
const MOST_CANDIDATES = 1_000_000;

/** One query's state during a scan. */
interface Scanning {
  query: PreparedQuery;
  high: Best;
  low: Best;
  found: Candidates;
  /** Places scanned so far; the rest, if any, is too short to matter. */
  scanned: number;
}

export interface Scanned {
  /** The rows whose interval reaches the k-th best of an end. */
  candidates: Candidates;
  /** Places that were scanned: all, or the longest rows until the next could not matter. */
  scanned: number;
}

/**
 * Scans all rows, or those of the bitmap `filter`, for up to QUERIES_AT_ONCE queries, each row read once from memory. A query
 * leaves the scan when ‖q‖ times the longest norm ahead reaches neither bound. Returns what it found for each query, in order, or
 * only for the first ones, at least one, where all together would hold more than `most` candidates.
 */
export function scan(
  resident: Resident,
  queries: readonly PreparedQuery[],
  k: number,
  filter: Uint8Array | null,
  most = MOST_CANDIDATES,
): Scanned[] {
  const { n, dimension, ceilings } = resident;
  const states = queries.map(
    (query): Scanning => ({
      query,
      high: kthLargest(k, 0),
      low: kthLargest(k, 0),
      found: { places: [], dots: [], widths: [] },
      scanned: 0,
    }),
  );
  const scanPlaces = place(resident, queries, filter);
  const cached =
    queries.length === 1 ? CHUNK_ROWS : Math.max(8, Math.floor(CACHED_BYTES / strideOf(dimension) / 8) * 8);
  let open = states.map((state, slot) => ({ state, slot }));
  for (let first = 0; first < n && open.length > 0; ) {
    // The first rows set the bounds that spare the later ones, so parts begin small and double.
    const part = Math.min(Math.max(first, STEP_ROWS), MOST_STEPS * STEP_ROWS, cached);
    const count = Math.min(part, n - first);
    const next = first + count;
    for (const { state, slot } of open) {
      const { high, low, found } = state;
      const earlier = found.places.length;
      scanPlaces(slot, first, count, high.bound, -low.bound, found);
      for (let index = earlier; index < found.places.length; index++) {
        high.offer(found.dots[index] - found.widths[index]);
        low.offer(-(found.dots[index] + found.widths[index]));
      }
      state.scanned = next;
    }
    const ceiling = ceilings[Math.floor(next / STEP_ROWS)] ?? 0;
    forgo(states, most);
    open = open.filter(({ state: { query, high, low }, slot }) => {
      if (slot >= states.length) return false;
      const farthest = (query.residualFactor + query.normFactor) * ceiling;
      return farthest > 0 && farthest >= Math.min(high.bound, low.bound);
    });
    first = next;
  }
  return states.map(({ high, low, found, scanned }) => ({
    candidates: keepReaching(found, high.bound, -low.bound),
    scanned,
  }));
}

/** Drops candidates that the bounds exclude by now, and then the last queries' states, until at most `most` are held, or one query's. */
function forgo(states: Scanning[], most: number): void {
  const held = () => states.reduce((sum, { found }) => sum + found.places.length, 0);
  if (states.length === 1 || held() <= most) return;
  for (const state of states) state.found = keepReaching(state.found, state.high.bound, -state.low.bound);
  while (states.length > 1 && held() > most) states.length = Math.ceil(states.length / 2);
}

/** Visits every row of the bitmap `filter`, or all, in parts: its dot and the width of its interval. Rows of zeros may be left out. */
export function scanAll(
  resident: Resident,
  query: PreparedQuery,
  filter: Uint8Array | null,
  visit: (part: Candidates) => void,
): void {
  const scanPlaces = place(resident, [query], filter);
  for (let first = 0; first < resident.n; first += CHUNK_ROWS) {
    const part: Candidates = { places: [], dots: [], widths: [] };
    // Bounds of zero exclude only what is zero for certain.
    scanPlaces(0, first, Math.min(CHUNK_ROWS, resident.n - first), 0, 0, part);
    visit(part);
  }
}

/** Puts queries and filter into the kernel's memory; returns its scan of some rows for the query in a slot, which adds what may matter to `found`. */
function place(resident: Resident, queries: readonly PreparedQuery[], filter: Uint8Array | null) {
  const { n, kernel, at, dimension, order } = resident;
  if (queries.length > QUERIES_AT_ONCE) {
    throw new RangeError(`queries: expected at most ${QUERIES_AT_ONCE} at once, got ${queries.length}; ask in parts`);
  }
  const { termsAt, codesAt } = coarseLayout(n, dimension);
  const stride = strideOf(dimension);
  const { buffer } = kernel.memory;
  const slotBytes = queryBytes(stride);
  queries.forEach(({ codes }, slot) => {
    writeQuery(codes, new Uint8Array(buffer, at.queries + slot * slotBytes, slotBytes), stride);
  });
  if (filter !== null) filterPlaces(order, filter, new Uint8Array(buffer, at.filter, filter.length));
  const places = new Uint32Array(buffer, at.rowList, CHUNK_ROWS);
  const pairs = new Float64Array(buffer, at.pairs, 2 * CHUNK_ROWS);
  return (slot: number, first: number, count: number, high: number, low: number, found: Candidates) => {
    const { residualFactor, normFactor, highFactor } = queries[slot];
    const written = kernel.scan(
      at.coarse + termsAt,
      at.coarse + codesAt,
      stride,
      first,
      count,
      at.queries + slot * slotBytes,
      residualFactor,
      normFactor,
      highFactor,
      high,
      low,
      filter === null ? 0 : at.filter,
      at.rowList,
      at.pairs,
    );
    for (let entry = 0; entry < written; entry++) {
      found.places.push(places[entry]);
      found.dots.push(pairs[2 * entry]);
      found.widths.push(pairs[2 * entry + 1]);
    }
  };
}

/** A bitmap of rows as a bitmap of places. */
function filterPlaces(order: Uint32Array, filter: Uint8Array, target: Uint8Array): void {
  target.fill(0);
  for (let place = 0; place < order.length; place++) {
    const row = order[place];
    target[place >> 3] |= ((filter[row >> 3] >> (row & 7)) & 1) << (place & 7);
  }
}

/** The candidates' intervals with the fine plane added. */
export function narrow(resident: Resident, query: PreparedQuery, candidates: Candidates): Candidates {
  const { n, kernel, at, dimension } = resident;
  const { buffer } = kernel.memory;
  const fine = fineLayout(n, dimension);
  const norms = new Float32Array(buffer, at.coarse + coarseLayout(n, dimension).termsAt, (n * COARSE_TERMS) / 4);
  const residuals = new Float32Array(buffer, at.second + fine.termsAt, (n * FINE_TERMS) / 4);
  const left = inChunks(resident, candidates.places, query.rotated, (rows, count, out) =>
    kernel.refine(at.second + fine.termsAt, at.second + fine.codesAt, strideOf(dimension), rows, count, at.values, out),
  );
  return {
    places: candidates.places,
    dots: candidates.dots.map((dot, index) => dot + left[index]),
    widths: candidates.places.map(
      (place) => query.residualFactor * residuals[2 * place + 1] + query.normFactor * norms[4 * place + 1],
    ),
  };
}

/** The truths of rows that are resident, by their places, all less than `exact`. */
export function exactDots(resident: Resident, query: PreparedQuery, places: readonly number[]): number[] {
  const { kernel, at, dimension, held, order } = resident;
  // rows.f32 goes by row, long.f32 by place.
  const rows = held === "rows" ? places.map((place) => order[place]) : places;
  return inChunks(resident, rows, query.values, (list, count, out) =>
    kernel.exact(at.second, dimension, list, count, at.values, out),
  );
}

/** Lets the kernel give one float64 for each row, CHUNK_ROWS at a time, the query's `values` in place. */
function inChunks(
  { kernel, at, dimension }: Resident,
  rows: readonly number[],
  values: Float64Array,
  run: (rows: number, count: number, out: number) => void,
): number[] {
  const { buffer } = kernel.memory;
  const list = new Uint32Array(buffer, at.rowList, CHUNK_ROWS);
  const out = new Float64Array(buffer, at.pairs, CHUNK_ROWS);
  const query = new Float64Array(buffer, at.values, strideOf(dimension));
  query.fill(0);
  query.set(values);
  const dots: number[] = [];
  for (let first = 0; first < rows.length; first += CHUNK_ROWS) {
    const count = Math.min(CHUNK_ROWS, rows.length - first);
    for (let index = 0; index < count; index++) list[index] = rows[first + index];
    run(at.rowList, count, at.pairs);
    for (let index = 0; index < count; index++) dots.push(out[index]);
  }
  return dots;
}
