/**
 * The approximate backend, for Node: hnswlib's graph over the balanced rows. Its recall is measured against exact answers when it is
 * built, and every answer states it. The influences it reports are exact; which rows it finds is not.
 */
import { existsSync } from "node:fs";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import hnswlib from "hnswlib-node";
import * as z from "zod";
import { type Basis, basisBytes, DROPPED, decodeBasis } from "../../src/core/basis.ts";
import { loadInto } from "../../src/core/load.ts";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { balanceQuery, checkGradient, orderedDot } from "../../src/core/query.ts";
import { RowReader } from "../../src/core/row-reader.ts";
import { type Backend, checkFilter, checkTopK, openSearcher, type SearchAnswer } from "../../src/core/search.ts";
import { best } from "../../src/core/topk.ts";
import { loadKernel } from "../serve/kernel.ts";
import { folderSource } from "../store/folder-source.ts";
import { readManifest } from "../store/publish.ts";

/** Beside the index, not in its manifest: built on the machine that uses it. */
const GRAPH = "approximate.hnsw";
const CALIBRATION = "approximate.json";

const calibrationSchema = z.object({
  /** Of the index that it was built for. */
  version: z.string(),
  /** Candidates that a search keeps: the least that reached the recall asked for, or the most that were tried. */
  ef: z.int().positive(),
  recall: z.number(),
  topK: z.int().positive(),
  /** Stored queries that recall was measured with. */
  queries: z.int().positive(),
});
export type Calibration = z.infer<typeof calibrationSchema>;

export interface ApproximateSettings {
  /** Links of a row, and candidates kept while the graph is built. */
  links: number;
  construction: number;
  /** The recall to reach at `topK` of each end, by raising ef up to `maximumEf`. */
  recall: number;
  topK: number;
  maximumEf: number;
}

export const APPROXIMATE: ApproximateSettings = {
  links: 16,
  construction: 200,
  recall: 0.95,
  topK: 10,
  maximumEf: 3200,
};

/** Rows have norms up to this: small enough to square in float32, large enough that 1 − dot, which hnswlib stores, keeps digits. */
const LONGEST = 1024;
const MEASURED_QUERIES = 50;
/** Memory for the exact answers that recall is measured against. */
const EXACT_BYTES = 4e9;

/**
 * Builds the graph of the index in `folder` and calibrates it with the index's stored queries. The same bytes for the same rows.
 * Throws RangeError if the index stores no queries. `onRow` is called after each row.
 */
export async function buildApproximate(
  folder: string,
  manifest: Manifest,
  settings: ApproximateSettings = APPROXIMATE,
  onRow?: (done: number) => void,
): Promise<Calibration> {
  const { n, dimension, queries } = manifest;
  if (queries === 0) {
    throw new RangeError(
      `${folder}: expected stored queries to measure recall with, got none; build the index with queries`,
    );
  }
  const basis = await readBasis(folder, manifest);
  const scales = Float64Array.from(basis.exponents, (exponent) =>
    exponent === DROPPED ? 0 : LONGEST * 2 ** -exponent,
  );
  const graph = new hnswlib.HierarchicalNSW("ip", dimension);
  graph.initIndex(n, settings.links, settings.construction, 1);
  for await (const [row, values] of eachRow(join(folder, FILES.rows), dimension)) {
    graph.addPoint(
      Array.from(values, (value, j) => value * scales[j]),
      row,
    );
    onRow?.(row + 1);
  }
  graph.writeIndexSync(join(folder, GRAPH));

  const gradients = await sampleQueries(folder, manifest);
  const searcher = await openSearcher(manifest, folderSource(folder), loadKernel(), EXACT_BYTES);
  const truths: SearchAnswer[] = [];
  for (const gradient of gradients) truths.push(await searcher.search(gradient, settings.topK));
  let calibration: Calibration | null = null;
  for (let ef = settings.topK; calibration === null || calibration.recall < settings.recall; ef *= 2) {
    if (ef > settings.maximumEf) break;
    calibration = { version: manifest.version, ef, recall: 0, topK: settings.topK, queries: gradients.length };
    const backend = await searchGraph(folder, manifest, basis, graph, calibration);
    const shares = await Promise.all(
      gradients.map(async (gradient, at) => recallOf(await backend.search(gradient, settings.topK), truths[at])),
    );
    calibration.recall = shares.reduce((sum, share) => sum + share / shares.length, 0);
  }
  const measured = calibrationSchema.parse(calibration);
  await writeFile(join(folder, CALIBRATION), `${JSON.stringify(measured)}\n`);
  return measured;
}

/** Builds the graph of the index in `folder` where it is not there yet for this version. Returns what it does, as a line of text. */
export async function prepareApproximate(folder: string): Promise<string> {
  const manifest = readManifest(folder);
  const built = await readCalibration(folder);
  const calibration = built?.version === manifest.version ? built : await buildApproximate(folder, manifest);
  const { recall, topK, queries, ef } = calibration;
  return `finds ${(100 * recall).toFixed(1)} % of the top ${topK} of both ends, measured on ${queries} stored queries (ef = ${ef})`;
}

async function readCalibration(folder: string): Promise<Calibration | null> {
  if (!existsSync(join(folder, CALIBRATION))) return null;
  return calibrationSchema.parse(JSON.parse(await readFile(join(folder, CALIBRATION), "utf8")));
}

/** Opens what buildApproximate built. Throws an Error if it is not there, or was built for another version of the index. */
export async function openApproximate(folder: string, manifest: Manifest): Promise<Backend> {
  const calibration = await readCalibration(folder);
  if (calibration === null) {
    throw new Error(`${join(folder, CALIBRATION)}: expected the approximate index, got none; build it first`);
  }
  if (calibration.version !== manifest.version) {
    throw new Error(
      `${join(folder, GRAPH)}: expected version ${manifest.version}, got ${calibration.version}; build it again`,
    );
  }
  const graph = new hnswlib.HierarchicalNSW("ip", manifest.dimension);
  graph.readIndexSync(join(folder, GRAPH));
  return searchGraph(folder, manifest, await readBasis(folder, manifest), graph, calibration);
}

async function searchGraph(
  folder: string,
  manifest: Manifest,
  basis: Basis,
  graph: hnswlib.HierarchicalNSW,
  calibration: Calibration,
): Promise<Backend> {
  const { n, dimension } = manifest;
  const checksums = new Uint32Array(n);
  await loadInto(manifest, folderSource(folder), FILES.rowChecksums, loadKernel(), new Uint8Array(checksums.buffer));
  const reader = new RowReader(folderSource(folder), dimension, checksums, 1024, FILES.rows);
  const { size } = await stat(join(folder, GRAPH));
  const search = async (gradient: Float32Array, topK: number, filter?: Uint8Array): Promise<SearchAnswer> => {
    checkTopK(topK);
    checkFilter(n, filter);
    checkGradient(gradient, dimension);
    const started = performance.now();
    const balanced = balanceQuery(basis, gradient);
    const largest = balanced.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const length = largest * Math.sqrt(balanced.reduce((sum, value) => sum + (value / largest) ** 2, 0));
    const k = Math.min(topK, n);
    graph.setEf(Math.max(calibration.ef, k));
    const has = (row: number) => filter === undefined || ((filter[row >> 3] >> (row & 7)) & 1) === 1;
    const nearest = (sign: 1 | -1) => {
      const point = Array.from(balanced, (value) => (sign * LONGEST * value) / length);
      return graph.searchKnn(point, k, filter === undefined ? undefined : has).neighbors;
    };
    const found = largest === 0 ? [] : [...new Set([...nearest(1), ...nearest(-1)])];
    const searched = performance.now();
    const rows: number[] = [];
    const dots: number[] = [];
    let fetched = 0;
    await reader.read(found, (row, values, read) => {
      if (read) fetched++;
      rows.push(row);
      dots.push(orderedDot(values, gradient));
    });
    return {
      helpful: best(rows, dots, k, 1),
      harmful: best(rows, dots, k, -1),
      exact: false,
      recall: calibration.recall,
      scanned: 0,
      codeBytes: 0,
      survivors: found.length,
      rescored: found.length,
      fetched,
      milliseconds: { scan: searched - started, refine: 0, read: performance.now() - searched },
    };
  };
  return { n, dimension, residentBytes: size + checksums.byteLength + 4096 * dimension, search };
}

/** The share of the true neighbours, of both ends, that are among those found. */
function recallOf(found: SearchAnswer, truth: SearchAnswer): number {
  const rows = new Set([...found.helpful, ...found.harmful].map(({ row }) => row));
  const wanted = [...truth.helpful, ...truth.harmful];
  return wanted.length === 0 ? 1 : wanted.filter(({ row }) => rows.has(row)).length / wanted.length;
}

async function readBasis(folder: string, manifest: Manifest): Promise<Basis> {
  const bytes = new Uint8Array(basisBytes(manifest.dimension));
  await loadInto(manifest, folderSource(folder), FILES.basis, loadKernel(), bytes);
  return decodeBasis(FILES.basis, bytes, manifest.n, manifest.dimension);
}

/** Stored queries, spread over all of them. */
async function sampleQueries(folder: string, { dimension, queries }: Manifest): Promise<Float32Array[]> {
  const count = Math.min(MEASURED_QUERIES, queries);
  const source = folderSource(folder);
  return Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const row = Math.floor((at * queries) / count);
      const bytes = await source.range(FILES.queries, 4 * dimension * row, 4 * dimension);
      return new Float32Array(bytes.buffer, bytes.byteOffset, dimension);
    }),
  );
}

/** The rows of a float32 file, one at a time; the values are overwritten by the next. */
async function* eachRow(file: string, dimension: number): AsyncGenerator<[number, Float32Array]> {
  const handle = await open(file, "r");
  try {
    const values = new Float32Array(dimension);
    for (let row = 0; (await handle.read(values)).bytesRead > 0; row++) yield [row, values];
  } finally {
    await handle.close();
  }
}
