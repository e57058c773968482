/** What every search backend answers, and the exact backend: a certified scan of the quantised rows (FORMAT.md). */

import { answerHeld } from "./answer.ts";
import { mixingOf } from "./descriptors.ts";
import { type GroupSums, sumGroups } from "./groups.ts";
import type { Kernel } from "./kernel/kernel.ts";
import { FILES, type Manifest } from "./manifest.ts";
import { longRows } from "./plane.ts";
import { orderedDot, type PreparedQuery, prepareQuery } from "./query.ts";
import { fitting, type Held, KEPT_BYTES, loadResident, QUERIES_AT_ONCE, type Resident, type Tier } from "./resident.ts";
import { type RowPlace, RowReader } from "./row-reader.ts";
import { exactDots, narrow, queriesAtOnce, type Scanned, scan } from "./scan.ts";
import type { IndexSource } from "./source.ts";
import { best, type Candidates, keepReaching, kthLargest, type Neighbour, prune } from "./topk.ts";

export type { Neighbour } from "./topk.ts";

export interface SearchAnswer {
  /** Rows of negative influence, most negative first; ties by row. At most topK. */
  helpful: Neighbour[];
  /** Rows of positive influence, most positive first; ties by row. At most topK. */
  harmful: Neighbour[];
  /** True when the order and the members are proved (certified), not only likely. */
  exact: boolean;
  /** The share of the true neighbours that the backend finds, measured when it was built; 1 where `exact`. */
  recall: number;
  /** Rows that the coarse scan read: the longest ones, until no further row could matter. */
  scanned: number;
  /** Bytes of codes that it read. */
  codeBytes: number;
  /** Rows whose interval from the coarse plane reached the k-th best, and rows read in full precision. */
  survivors: number;
  rescored: number;
  /** Of `rescored`, the rows that had to be fetched from the source. */
  fetched: number;
  /** Where the time went: coarse scan, finer intervals and exact dots in memory, reading rows from the source. Zeros where one call did it all. */
  milliseconds: { scan: number; refine: number; read: number };
}

/** An opened index, ready to be asked. Errors: TypeError or RangeError for a bad argument, CorruptIndexError for an altered row. */
export interface Backend {
  readonly n: number;
  readonly dimension: number;
  /** Bytes held in memory. */
  readonly residentBytes: number;
  /**
   * `gradient`: [R] float32, the compressed query gradient g̃_q, finite. `topK` ≥ 1, may exceed n. The truth is the float64
   * dot product of the float32 values, summed in order of the coordinates. `filter`: only rows of this bitmap (rowBitmap) count.
   */
  search(gradient: Float32Array, topK: number, filter?: Uint8Array): Promise<SearchAnswer>;
}

/** The certified scan, which can do more. */
export interface Searcher extends Backend {
  /** What is held beside the coarse plane: all float32 rows, the fine plane, the longest quarter of the rows, or nothing. */
  readonly held: Held;
  /** Up to 256 queries at once, each row read once; one answer each, in order. */
  searchBatch(gradients: readonly Float32Array[], topK: number, filter?: Uint8Array): Promise<SearchAnswer[]>;
  /** Influence summed over groups of rows: `groups` [n] has each row's group, 0 … count − 1; a row of another value is in none. */
  sumGroups(gradient: Float32Array, groups: ArrayLike<number>, count: number, filter?: Uint8Array): Promise<GroupSums>;
}

/** A filter: the bitmap of the rows listed, row 0 in bit 0 of byte 0. Throws RangeError for a row that is none of the n. */
export function rowBitmap(n: number, rows: Iterable<number>): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(n / 8));
  for (const row of rows) {
    if (!Number.isInteger(row) || row < 0 || row >= n) {
      throw new RangeError(`filter: expected rows of 0 … ${n - 1}, got ${row}; name rows of this index`);
    }
    bitmap[row >> 3] |= 1 << (row & 7);
  }
  return bitmap;
}

/**
 * Opens an index: streams what fits `budgetBytes` from `source` into the kernel's memory, each file checked against the
 * manifest's checksum on the way. The coarse plane is always resident; the float32 rows if they fit; else, if it fits, a quarter of
 * their bytes: the fine plane, or the longest rows where few are long; else as many of the longest rows as fit. What is not resident is read row by row, each checked by its CRC-32.
 *
 *   Node:    openSearcher(manifest, folderSource(folder), loadKernel(), budget)   offline/store/folder-source.ts, offline/serve/kernel.ts
 *   Workers: openSearcher(manifest, source, workerKernel(), budget)               src/kernel.ts
 *
 * Throws CorruptIndexError naming the file, or BudgetError if not even the coarse plane fits.
 */
export async function openSearcher(
  manifest: Manifest,
  source: IndexSource,
  kernel: Kernel,
  budgetBytes: number,
): Promise<Searcher> {
  const { tier, longest } = fitting(manifest.n, manifest.dimension, budgetBytes, mixingOf(manifest));
  return openTier(manifest, source, kernel, tier, longest);
}

/** Opens an index with what `tier` names in memory, and the `longest` rows beside a coarse plane alone. Throws CorruptIndexError. */
export async function openTier(
  manifest: Manifest,
  source: IndexSource,
  kernel: Kernel,
  tier: Tier,
  longest = 0,
): Promise<Searcher> {
  const { n, dimension } = manifest;
  const resident = await loadResident(manifest, source, kernel, tier, longest);
  const capacity = tier === "rows" ? 0 : Math.floor(KEPT_BYTES / (4 * dimension));
  const reader = new RowReader(source, dimension, resident.checksums, capacity, locating(resident));

  /** Certifies the scans of some queries; what must be read from the source is read for all of them together. */
  const certify = async (scans: readonly { query: PreparedQuery; scanned: Scanned }[], k: number, scanMs: number) => {
    const started = kernel.now();
    const certified = scans.map(({ query, scanned: { candidates } }): Certifying => {
      const kept = resident.held === "fine" ? prune(narrow(resident, query, candidates), k) : candidates;
      return { query, candidates: kept, truths: knownTruths(resident, query, kept), fetched: 0 };
    });
    const refined = kernel.now();
    await fetchTruths(reader, certified, k);
    const [refine, read] = [refined - started, kernel.now() - refined].map((time) => time / scans.length);
    return certified.map(({ truths: { places, dots }, fetched }, at): SearchAnswer => {
      const rows = places.map((place) => resident.order[place]);
      const { candidates, scanned, codeBytes } = scans[at].scanned;
      return {
        helpful: best(rows, dots, k, 1),
        harmful: best(rows, dots, k, -1),
        exact: true,
        recall: 1,
        scanned,
        codeBytes,
        survivors: candidates.places.length,
        rescored: rows.length,
        fetched,
        milliseconds: { scan: scanMs, refine, read },
      };
    });
  };

  const searchBatch = async (
    gradients: readonly Float32Array[],
    topK: number,
    filter?: Uint8Array,
  ): Promise<SearchAnswer[]> => {
    checkTopK(topK);
    if (gradients.length > QUERIES_AT_ONCE) {
      throw new RangeError(`gradients: expected at most ${QUERIES_AT_ONCE}, got ${gradients.length}; ask in parts`);
    }
    checkFilter(n, filter);
    const k = Math.min(topK, n);
    if (gradients.length === 1) {
      const held = answerHeld(resident, gradients[0], k, filter ?? null);
      if (held !== null) {
        const { helpful, harmful, rescored, scanned, codeBytes } = held;
        const found = { helpful, harmful, exact: true, recall: 1, scanned, codeBytes };
        return [{ ...found, survivors: rescored, rescored, fetched: 0, milliseconds: UNDIVIDED }];
      }
    }
    const answers: SearchAnswer[] = [];
    // One part, unless the queries want more room than there is. Their slots are theirs only until a row is waited for, when another
    // search may prepare its own: so each part is prepared anew.
    while (answers.length < gradients.length) {
      const started = kernel.now();
      const part = gradients.slice(answers.length, answers.length + queriesAtOnce(k));
      const prepared = part.map((gradient, slot) => prepareQuery(resident, gradient, slot));
      const asked = prepared.filter((query) => query !== null);
      const scans = scan(resident, asked, k, filter ?? null).map((scanned, at) => ({ query: asked[at], scanned }));
      const certified = await certify(scans, k, (kernel.now() - started) / scans.length);
      for (const query of prepared) {
        const answer = query === null ? nothing : certified.shift();
        if (answer === undefined) break;
        answers.push(answer);
      }
    }
    return answers;
  };

  return {
    n,
    dimension,
    residentBytes: resident.at.end,
    held: resident.held,
    searchBatch,
    async search(gradient, topK, filter) {
      const [only] = await searchBatch([gradient], topK, filter);
      return only;
    },
    async sumGroups(gradient, groups, count, filter) {
      checkFilter(n, filter);
      return sumGroups(resident, prepareQuery(resident, gradient, 0), groups, count, filter ?? null);
    },
  };
}

/** Throws RangeError unless `topK` is a positive integer. */
export function checkTopK(topK: number): void {
  if (Number.isInteger(topK) && topK >= 1) return;
  throw new RangeError(`topK: expected a positive integer, got ${topK}; ask for at least one`);
}

/** Throws RangeError unless `filter` is a bitmap of n rows, or none. */
export function checkFilter(n: number, filter: Uint8Array | undefined): void {
  if (filter !== undefined && filter.length !== Math.ceil(n / 8)) {
    throw new RangeError(
      `filter: expected a bitmap of ${Math.ceil(n / 8)} bytes for ${n} rows, got ${filter.length}; use rowBitmap`,
    );
  }
}

const UNDIVIDED = { scan: 0, refine: 0, read: 0 };

/** The answer to a query that is zero wherever a row is not. */
const nothing: SearchAnswer = {
  helpful: [],
  harmful: [],
  exact: true,
  recall: 1,
  scanned: 0,
  codeBytes: 0,
  survivors: 0,
  rescored: 0,
  fetched: 0,
  milliseconds: UNDIVIDED,
};

/** Where the row at a place is read from: the longest lie close together in long.f32, and most answers are among them. */
function locating({ n, order }: Resident): (place: number) => RowPlace {
  const long = longRows(n);
  return (place) =>
    place < long
      ? { file: FILES.long, at: place, row: order[place] }
      : { file: FILES.rows, at: order[place], row: order[place] };
}

/** Rows, by their places, and their dots in float64 of the float32 values. */
interface Truths {
  places: number[];
  dots: number[];
}

/** A query on its way from candidates to an answer. */
interface Certifying {
  query: PreparedQuery;
  candidates: Candidates;
  truths: Truths;
  /** Of the truths, those whose rows had to be read from the source. */
  fetched: number;
}

/** The truths of those candidates whose rows are resident. */
function knownTruths(resident: Resident, query: PreparedQuery, { places }: Candidates): Truths {
  const known = places.filter((place) => place < resident.exact);
  return { places: known, dots: exactDots(resident, query, known) };
}

/**
 * Adds the truths of rows that must be read from the source: of those whose interval still reaches the k-th truth, first the k
 * that look best at each end, then what reaches it even so. Twice MOST_READS reads at most, however many queries and rows.
 */
async function fetchTruths(reader: RowReader, asked: readonly Certifying[], k: number): Promise<void> {
  if (asked.every(({ candidates, truths }) => truths.places.length === candidates.places.length)) return;
  // The truths of rows that are waited for must be of what was scanned, whatever the caller does with its own values meanwhile.
  const gradients = new Map(asked.map((one) => [one, one.query.values.slice()]));
  const likely = (one: Certifying) => {
    const ranked = reaching(one, k).sort((a, b) => b.dot - a.dot);
    return ranked.length <= 2 * k ? ranked : [...ranked.slice(0, k), ...ranked.slice(-k)];
  };
  for (const choose of [likely, (one: Certifying) => reaching(one, k)]) {
    const wanted = new Map<number, Certifying[]>();
    for (const one of asked) {
      for (const { place } of choose(one)) {
        const others = wanted.get(place);
        if (others === undefined) wanted.set(place, [one]);
        else others.push(one);
      }
    }
    await reader.read(wanted.keys(), (place, values, fetched) => {
      for (const one of wanted.get(place) ?? []) {
        one.truths.places.push(place);
        one.truths.dots.push(orderedDot(values, gradients.get(one) ?? one.query.values));
        if (fetched) one.fetched++;
      }
    });
  }
}

/** The candidates without a truth yet whose interval reaches the k-th truth of an end. */
function reaching({ query, candidates, truths }: Certifying, k: number): { place: number; dot: number }[] {
  if (truths.places.length === candidates.places.length) return [];
  const known = new Set(truths.places);
  const high = kthLargest(k, 0);
  const low = kthLargest(k, 0);
  for (const dot of truths.dots) {
    // A truth in the query's unit, rounded towards zero, so that a bound is never too strict.
    const scaled = (dot / query.unit) * (1 - 2 ** -50);
    high.offer(scaled);
    low.offer(-scaled);
  }
  const { places, dots } = keepReaching(candidates, high.bound, -low.bound);
  return places.map((place, index) => ({ place, dot: dots[index] })).filter(({ place }) => !known.has(place));
}
