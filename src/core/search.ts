/** What every search backend answers, and the exact backend: a certified scan of the quantised rows (FORMAT.md). */
import type { Kernel } from "./kernel/kernel.ts";
import type { Manifest } from "./manifest.ts";
import { FILES } from "./manifest.ts";
import { COARSE_TERMS, coarseLayout, FINE_TERMS, fineLayout, strideOf } from "./plane.ts";
import { type PreparedQuery, prepareQuery, writeQuery } from "./query.ts";
import { CHUNK_ROWS, KEPT_BYTES, loadResident, type Resident, type Tier } from "./resident.ts";
import { RowReader } from "./row-reader.ts";
import type { IndexSource } from "./source.ts";
import { best, type Candidates, keepReaching, kthLargest, prune } from "./topk.ts";

/** One training example and its signed influence on the query's loss (eq. 4): − g̃_q · p_row. */
export interface Neighbour {
  row: number;
  influence: number;
}

export interface SearchAnswer {
  /** Rows of negative influence, most negative first; ties by row. At most topK. */
  helpful: Neighbour[];
  /** Rows of positive influence, most positive first; ties by row. At most topK. */
  harmful: Neighbour[];
  /** True when the order and the members are proved (certified), not only likely. */
  exact: boolean;
  /** Rows whose interval from the coarse plane reached the k-th best, and rows read in full precision. */
  survivors: number;
  rescored: number;
  /** Of `rescored`, the rows that had to be fetched from the source. */
  fetched: number;
  /** Where the time went: coarse scan, finer intervals and exact dots in memory, reading rows from the source. */
  milliseconds: { scan: number; refine: number; read: number };
}

/** An opened index, ready to be asked. */
export interface Searcher {
  readonly n: number;
  readonly dimension: number;
  /** Bytes held in memory. */
  readonly residentBytes: number;
  /** What is held beside the coarse plane: full rows, the fine plane, or nothing. */
  readonly tier: Tier;
  /**
   * `gradient`: [R] float32, the compressed query gradient g̃_q, finite. `topK` ≥ 1, may exceed n. The truth is the float64
   * dot product of the float32 values, summed in order of the coordinates.
   * Throws TypeError or RangeError for a bad argument, CorruptIndexError for an altered row.
   */
  search(gradient: Float32Array, topK: number): Promise<SearchAnswer>;
}

/**
 * Opens an index: streams what fits `budgetBytes` from `source` into the kernel's memory, each file checked against the
 * manifest's sha256 on the way. The coarse plane is always resident; the float32 rows if they fit; else the fine plane if it
 * fits. What is not resident is read row by row, each checked by its CRC-32.
 *
 *   Node:    openSearcher(manifest, folderSource(folder), loadKernel(), budget)   offline/folder-source.ts, offline/kernel.ts
 *   Workers: openSearcher(manifest, source, workerKernel(), budget)                     src/kernel.ts
 *
 * Throws CorruptIndexError naming the file, or BudgetError if not even the coarse plane fits.
 */
export async function openSearcher(
  manifest: Manifest,
  source: IndexSource,
  kernel: Kernel,
  budgetBytes: number,
): Promise<Searcher> {
  const { n, dimension } = manifest;
  const resident = await loadResident(manifest, source, kernel, budgetBytes);
  const keptRows = resident.tier === "rows" ? 0 : Math.floor(KEPT_BYTES / (4 * dimension));
  const reader = new RowReader(source, FILES.rows, dimension, resident.checksums, keptRows);

  const search = async (gradient: Float32Array, topK: number): Promise<SearchAnswer> => {
    if (!Number.isInteger(topK) || topK < 1) {
      throw new RangeError(`topK: expected a positive integer, got ${topK}; ask for at least one`);
    }
    const k = Math.min(topK, n);
    const started = kernel.now();
    const query = prepareQuery(resident.basis, gradient);
    if (query === null) return emptyAnswer();
    const candidates = scan(resident, n, dimension, query, k);
    const scanned = kernel.now();
    const kept = resident.tier === "fine" ? refine(resident, n, dimension, query, candidates, k) : candidates;
    const scored = resident.tier === "rows" ? exactDots(resident, dimension, query, kept) : null;
    const refined = kernel.now();
    const { rows, dots, fetched } = scored ?? (await readDots(reader, query, kept, k));
    const neighbours = (sign: 1 | -1) => best(rows, dots, k, sign).map(({ row, dot }) => ({ row, influence: -dot }));
    return {
      helpful: neighbours(1),
      harmful: neighbours(-1),
      exact: true,
      survivors: candidates.rows.length,
      rescored: rows.length,
      fetched,
      milliseconds: { scan: scanned - started, refine: refined - scanned, read: kernel.now() - refined },
    };
  };
  return {
    n,
    dimension,
    residentBytes: resident.at.end,
    tier: resident.tier,
    search,
  };
}

const emptyAnswer = (): SearchAnswer => ({
  helpful: [],
  harmful: [],
  exact: true,
  survivors: 0,
  rescored: 0,
  fetched: 0,
  milliseconds: { scan: 0, refine: 0, read: 0 },
});

/** The coarse scan of all rows: those whose interval reaches the k-th best of an end. */
function scan(resident: Resident, n: number, dimension: number, query: PreparedQuery, k: number): Candidates {
  const { kernel, at } = resident;
  const { termsAt, codesAt } = coarseLayout(n, dimension);
  const stride = strideOf(dimension);
  const { buffer } = kernel.memory;
  writeQuery(query.codes, new Uint8Array(buffer, at.queries, 4 * stride), stride);
  const outRows = new Uint32Array(buffer, at.rowList, CHUNK_ROWS);
  const outPairs = new Float64Array(buffer, at.pairs, 2 * CHUNK_ROWS);
  const high = kthLargest(k, 0);
  const low = kthLargest(k, 0);
  const found: Candidates = { rows: [], dots: [], widths: [] };
  for (let first = 0; first < n; ) {
    // The first rows set the bounds that spare the later ones.
    const count = Math.min(first === 0 ? 256 : CHUNK_ROWS, n - first);
    const written = kernel.scan(
      at.coarse + termsAt,
      at.coarse + codesAt,
      stride,
      first,
      count,
      at.queries,
      query.residualFactor,
      query.normFactor,
      query.highFactor,
      high.bound,
      -low.bound,
      0,
      at.rowList,
      at.pairs,
    );
    for (let index = 0; index < written; index++) {
      const dot = outPairs[2 * index];
      const width = outPairs[2 * index + 1];
      found.rows.push(outRows[index]);
      found.dots.push(dot);
      found.widths.push(width);
      high.offer(dot - width);
      low.offer(-(dot + width));
    }
    first += count;
  }
  return keepReaching(found, high.bound, -low.bound);
}

/** Narrower intervals from the fine plane too, and what they leave. */
function refine(
  resident: Resident,
  n: number,
  dimension: number,
  query: PreparedQuery,
  candidates: Candidates,
  k: number,
): Candidates {
  const { kernel, at } = resident;
  const { buffer } = kernel.memory;
  const coarse = coarseLayout(n, dimension);
  const fine = fineLayout(n, dimension);
  const norms = new Float32Array(buffer, at.coarse + coarse.termsAt, (n * COARSE_TERMS) / 4);
  const residuals = new Float32Array(buffer, at.second + fine.termsAt, (n * FINE_TERMS) / 4);
  const left = inChunks(resident, candidates.rows, query.rotated, dimension, (rows, count, out) =>
    kernel.refine(at.second + fine.termsAt, at.second + fine.codesAt, strideOf(dimension), rows, count, at.values, out),
  );
  const dots = candidates.dots.map((dot, index) => dot + left[index]);
  const widths = candidates.rows.map(
    (row) => query.residualFactor * residuals[2 * row + 1] + query.normFactor * norms[4 * row + 1],
  );
  return prune({ rows: candidates.rows, dots, widths }, k);
}

/** The truths of resident rows. */
function exactDots(resident: Resident, dimension: number, query: PreparedQuery, { rows }: Candidates) {
  const { kernel, at } = resident;
  const dots = inChunks(resident, rows, query.values, dimension, (list, count, out) =>
    kernel.exact(at.second, dimension, list, count, at.values, out),
  );
  return { rows, dots, fetched: 0 };
}

/** Lets the kernel give one float64 for each row, CHUNK_ROWS at a time, the query's `values` in place. */
function inChunks(
  { kernel, at }: Resident,
  rows: readonly number[],
  values: Float64Array,
  dimension: number,
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

/**
 * The truths of rows that are read from the source: first the k that look best at each end, then only those whose interval
 * still reaches the k-th truth.
 */
async function readDots(reader: RowReader, query: PreparedQuery, candidates: Candidates, k: number) {
  const order = candidates.rows.map((_, index) => index).sort((a, b) => candidates.dots[b] - candidates.dots[a]);
  const first = new Set([...order.slice(0, k), ...order.slice(-k)]);
  const rows: number[] = [];
  const dots: number[] = [];
  let fetched = 0;
  const readAll = async (indices: readonly number[]) => {
    const wanted = indices.map((index) => candidates.rows[index]);
    const read = await reader.read(wanted);
    fetched += read.fetched;
    for (const row of wanted) {
      rows.push(row);
      dots.push(orderedDot(read.values.get(row)!, query.values));
    }
  };
  await readAll([...first]);
  const high = kthLargest(k, 0);
  const low = kthLargest(k, 0);
  for (const dot of dots) {
    // A truth in the query's unit, rounded towards zero, so that a bound is never too strict.
    const scaled = (dot / query.unit) * (1 - 2 ** -50);
    high.offer(scaled);
    low.offer(-scaled);
  }
  const rest = keepReaching(candidates, high.bound, -low.bound);
  const seen = new Set(rows);
  const index = new Map(candidates.rows.map((row, at) => [row, at]));
  await readAll(rest.rows.filter((row) => !seen.has(row)).map((row) => index.get(row)!));
  return { rows, dots, fetched };
}

/** Σ_j row_j · query_j in float64, j ascending: what an influence is. */
function orderedDot(row: Float32Array, query: Float64Array): number {
  let sum = 0;
  for (let j = 0; j < row.length; j++) sum += row[j] * query[j];
  return sum;
}
