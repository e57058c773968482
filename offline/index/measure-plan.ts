/** What a plan costs on the vectors of a run: its index, and what it would be with fewer coordinates, searched with its stored queries. */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mixingOf } from "../../src/core/descriptors.ts";
import { FILES, type Manifest, type MixingShape } from "../../src/core/manifest.ts";
import { BudgetError, fitting, type Held } from "../../src/core/resident.ts";
import { openTier } from "../../src/core/search.ts";
import { median, quantile } from "../evaluate/statistics.ts";
import { loadKernel } from "../serve/kernel.ts";
import { folderSource } from "../store/folder-source.ts";
import { indexPart, partGradients, spreadOver } from "./part.ts";
import { largestMixing } from "./plan.ts";

const TOP = 10;
const QUERIES = 60;
/** Rows that are measured at most, spread over all: more would take minutes and change shares little. */
const MOST_ROWS = 60_000;
/** Fewer coordinates are no choice. */
const LEAST_R = 64;

/** What a query costs with R coordinates in the memory planned for. */
export interface Cost {
  dimension: number;
  /** Null where nothing of it fits; the rest is then 0. */
  held: Held | null;
  bytes: number;
  /** Rows re-scored, in % of n, and rows read from the store: medians of the stored queries, and the 95th percentile. */
  rescored: number;
  read: number;
  read95: number;
}

/**
 * The costs of an index of n rows like those of the index in `folder`, with its own R and with halves of that, each a part of the same
 * coordinates. Throws an Error if it stores no queries.
 */
export async function measurePlan(folder: string, manifest: Manifest, n: number, memory: number): Promise<Cost[]> {
  if (manifest.queries === 0) {
    throw new Error(`${folder}: expected stored queries to measure with, got none; build the index with queries`);
  }
  const costs: Cost[] = [];
  for (let R = manifest.dimension; R >= Math.min(LEAST_R, manifest.dimension); R = Math.floor(R / 2)) {
    costs.push(await measured(folder, manifest, R, n, memory));
  }
  return costs;
}

async function measured(folder: string, manifest: Manifest, R: number, n: number, memory: number): Promise<Cost> {
  const own = R === manifest.dimension && manifest.n <= MOST_ROWS;
  if (fits(n, R, memory, own ? mixingOf(manifest) : largestMixing(R)) === null) return unfit(R);
  const queries: Float32Array[] = [];
  for await (const query of sampled(folder, manifest, FILES.queries, manifest.queries, QUERIES, R)) queries.push(query);
  const place = own ? folder : await mkdtemp(join(tmpdir(), "influence-plan-"));
  try {
    const part = own ? manifest : await indexed(place, folder, manifest, R, queries);
    const fitted = fits(n, R, memory, mixingOf(part));
    if (fitted === null) return unfit(R);
    const { tier, longest, bytes } = fitted;
    const share = Math.floor((longest * part.n) / n);
    const searcher = await openTier(part, folderSource(place), loadKernel(), tier, share);
    const rescored: number[] = [];
    const read: number[] = [];
    for (const query of queries) {
      const answer = await searcher.search(query, TOP);
      rescored.push((100 * answer.rescored) / part.n);
      read.push(answer.fetched);
    }
    return {
      dimension: R,
      held: searcher.held,
      bytes,
      rescored: median(rescored),
      read: median(read),
      read95: quantile(read, 0.95),
    };
  } finally {
    if (!own) await rm(place, { recursive: true });
  }
}

const unfit = (R: number): Cost => ({ dimension: R, held: null, bytes: 0, rescored: 0, read: 0, read95: 0 });

function fits(n: number, R: number, memory: number, mixing: MixingShape | null) {
  try {
    return fitting(n, R, memory, mixing);
  } catch (error) {
    if (error instanceof BudgetError) return null;
    throw error;
  }
}

/**
 * An index in `place` of the rows measured and R of their coordinates; mixed where the run's gradients are there, without them not, because
 * stored queries are too few to design from.
 */
async function indexed(place: string, folder: string, manifest: Manifest, R: number, queries: Float32Array[]) {
  const handle = await open(join(place, FILES.rows), "w");
  let n = 0;
  for await (const row of sampled(folder, manifest, FILES.rows, manifest.n, MOST_ROWS, R)) {
    await handle.write(row);
    n++;
  }
  await handle.close();
  const spread = spreadOver(manifest.dimension, R);
  const gradients = partGradients(folder, manifest, manifest.n, spread);
  return await indexPart(place, manifest, n, spread, gradients ?? { typical: null, meanSquare: meanSquareOf(queries) });
}

function meanSquareOf(vectors: readonly Float32Array[]): Float64Array {
  const sums = new Float64Array(vectors[0]?.length ?? 0);
  for (const vector of vectors) for (let j = 0; j < sums.length; j++) sums[j]! += vector[j]! ** 2 / vectors.length;
  return sums;
}

/** At most `most` rows of a float32 file, and R of each row's coordinates, both spread over all. */
async function* sampled(
  folder: string,
  { dimension }: Manifest,
  file: string,
  rows: number,
  most: number,
  R: number,
): AsyncGenerator<Float32Array> {
  const handle = await open(join(folder, file), "r");
  try {
    const whole = new Float32Array(dimension);
    const spread = spreadOver(dimension, R);
    const count = Math.min(most, rows);
    for (let at = 0; at < count; at++) {
      await handle.read(whole, 0, 4 * dimension, 4 * dimension * Math.floor((at * rows) / count));
      yield Float32Array.from(spread, (j) => whole[j]!);
    }
  } finally {
    await handle.close();
  }
}

/** The costs as lines of text. */
export function costLines(costs: readonly Cost[]): string[] {
  return costs.map(({ dimension, held, bytes, rescored, read, read95 }) =>
    held === null
      ? `  R = ${dimension}: does not fit`
      : `  R = ${dimension}: ${held} in ${(bytes / 1e6).toFixed(1)} MB, ${rescored.toPrecision(2)} % of the rows re-scored, ${Math.ceil(read)} read from the store (95 %: ${Math.ceil(read95)})`,
  );
}
