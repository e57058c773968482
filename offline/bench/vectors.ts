/** Real influence vectors at other n and R than the demonstration's, and the search of them against native brute force. */
import { createReadStream, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join, resolve } from "node:path";
import hnswlib from "hnswlib-node";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { prepareQuery } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { loadResident, STEP_ROWS } from "../../src/core/resident.ts";
import { scan } from "../../src/core/scan.ts";
import { openTier, type SearchAnswer } from "../../src/core/search.ts";
import { type Config, readConfig } from "../command/config.ts";
import { buildToIndex } from "../command/pipeline.ts";
import { type Progress, progressTo } from "../command/progress.ts";
import { ALONE } from "../command/run.ts";
import { holdingRun } from "../command/step.ts";
import { median, quantile } from "../evaluate/statistics.ts";
import { indexPart, partGradients, spreadOver } from "../index/part.ts";
import { loadKernel } from "../serve/kernel.ts";
import { folderSource } from "../store/folder-source.ts";
import { readManifest } from "../store/publish.ts";

export const TOP = 10;

const DEMONSTRATION = "fixtures/mnist-cnn/influence.yaml";

/** Builds a run in `folder`. Returns the index's folder. */
export async function builtRun(folder: string, config: Config, progress: Progress): Promise<string> {
  return await holdingRun(folder, "build", false, () =>
    buildToIndex({ ...ALONE, config, folder, replace: true, progress }),
  );
}

/** The demonstration's own index. Returns its folder. */
export async function demonstration(): Promise<string> {
  const config = readConfig(DEMONSTRATION);
  return await builtRun(resolve("runs", config.name), config, progressTo("lines"));
}

/** The demonstration built with other settings, kept in runs/bench. Returns the index's folder. */
export async function demonstrationWith(name: string, change: (config: Config) => Config): Promise<string> {
  const config = change(readConfig(DEMONSTRATION));
  return await builtRun(resolve("runs", "bench", name), config, progressTo("lines"));
}

/** `count` of the stored queries, [R] each, spread over all of them; or R of their coordinates, spread likewise. */
export function readQueries(index: string, count: number, R?: number): Float32Array[] {
  const { dimension, queries } = readManifest(index);
  const bytes = readFileSync(join(index, FILES.queries));
  const spread = spreadOver(dimension, R ?? dimension);
  return Array.from({ length: count }, (_, query) => {
    const start = 4 * dimension * Math.floor((query * queries) / count);
    const whole = new Float32Array(Uint8Array.from(bytes.subarray(start, start + 4 * dimension)).buffer);
    return Float32Array.from(spread, (j) => whole[j]!);
  });
}

/**
 * An index, without metadata, in `folder`: the first n rows of `index`, R of their coordinates spread over all. Rows beyond its own
 * are rows of it again, each value with a tenth of noise; the mixing is designed from its own.
 */
export async function cutIndex(index: string, folder: string, n: number, R: number): Promise<Manifest> {
  const manifest = readManifest(index);
  const { dimension: width } = manifest;
  const spread = spreadOver(width, R);
  const generator = random(1, "bench");
  const source = await open(join(index, FILES.rows), "r");
  const rows = await open(join(folder, FILES.rows), "w");
  const whole = new Float32Array(width);
  const block = new Float32Array(1024 * R);
  for (let first = 0; first < n; first += 1024) {
    const count = Math.min(1024, n - first);
    for (let at = 0; at < count; at++) {
      const own = first + at < manifest.n;
      await source.read(whole, 0, 4 * width, 4 * width * (own ? first + at : generator.below(manifest.n)));
      for (let j = 0; j < R; j++) {
        block[at * R + j] = whole[spread[j]!]! * (own ? 1 : 1 + 0.1 * generator.normal());
      }
    }
    await rows.write(block.subarray(0, count * R));
  }
  await source.close();
  await rows.close();
  const gradients = partGradients(index, manifest, Math.min(n, manifest.n), spread);
  if (gradients === null) {
    throw new Error(
      `${index}: expected the shards of its gradients beside it, got none or others; delete it and build again`,
    );
  }
  return await indexPart(folder, manifest, n, spread, gradients);
}

/**
 * Throws an Error unless a search answered as brute force in float64 does: the rows of both ends, in order, with their influences.
 */
export async function checkAnswer(
  index: string,
  query: Float32Array,
  { helpful, harmful }: SearchAnswer,
): Promise<void> {
  const R = query.length;
  const dots: { row: number; influence: number }[] = [];
  for await (const chunk of createReadStream(join(index, FILES.rows), { highWaterMark: 4 * R })) {
    const values = new Float32Array(Uint8Array.from(chunk).buffer);
    let dot = 0;
    for (let j = 0; j < R; j++) dot += values[j]! * query[j]!;
    dots.push({ row: dots.length, influence: -dot });
  }
  for (const [sign, found] of [
    [-1, helpful],
    [1, harmful],
  ] as const) {
    const best = dots
      .filter(({ influence }) => sign * influence > 0)
      .sort((a, b) => sign * (b.influence - a.influence) || a.row - b.row)
      .slice(0, found.length);
    if (JSON.stringify(best) === JSON.stringify(found)) continue;
    throw new Error(
      `${index}: expected brute force's ${JSON.stringify(best)}, got ${JSON.stringify(found)}; the search is wrong`,
    );
  }
}

export async function milliseconds(run: () => unknown): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** Medians over interleaved rounds, in milliseconds where not said otherwise. */
export interface Timed {
  /** One query, certified, both ends; and its 99th percentile. */
  one: number;
  p99: number;
  /** The scan of every row, none skipped. */
  every: number;
  /** hnswlib's own brute force, float32, one end. */
  native: number;
  /** Bytes of codes that a query reads, and rows re-scored in % of n. */
  bytes: number;
  rescored: number;
}

/** Searches an index on Node, all rows in memory, in turns with native brute force over the same rows. */
export async function timeSearch(
  folder: string,
  manifest: Manifest,
  queries: Float32Array[],
  rounds: number,
): Promise<Timed> {
  const { n, dimension: R } = manifest;
  const searcher = await openTier(manifest, folderSource(folder), loadKernel(), "rows");
  const resident = await loadResident(manifest, folderSource(folder), loadKernel(), "coarse");
  // Ceilings that let no scan stop.
  resident.doubles.fill(
    Number.POSITIVE_INFINITY,
    resident.at.ceilings / 8,
    resident.at.ceilings / 8 + Math.ceil(n / STEP_ROWS),
  );
  const native = await nativeBruteForce(folder, n, R);
  const times: number[][] = [[], [], []];
  const bytes: number[] = [];
  const rescored: number[] = [];
  for (let round = -10; round < rounds; round++) {
    const gradient = queries[(round + 10) % queries.length]!;
    const list = [...gradient];
    const query = prepareQuery(resident, gradient, 0)!;
    const runs = [
      () => searcher.search(gradient, TOP),
      () => scan(resident, [query], TOP, null),
      () => native.searchKnn(list, TOP),
    ];
    for (const [at, run] of runs.entries()) {
      const time = await milliseconds(run);
      if (round >= 0) times[at]!.push(time);
    }
    const answer = await searcher.search(gradient, TOP);
    bytes.push(answer.codeBytes);
    rescored.push((100 * answer.rescored) / n);
  }
  const [one, every, brute] = times.map(median);
  return {
    one: one!,
    p99: quantile(times[0]!, 0.99),
    every: every!,
    native: brute!,
    bytes: median(bytes),
    rescored: median(rescored),
  };
}

/** hnswlib's own brute force over the folder's rows. */
async function nativeBruteForce(folder: string, n: number, R: number): Promise<hnswlib.BruteforceSearch> {
  const native = new hnswlib.BruteforceSearch("ip", R);
  native.initIndex(n);
  let row = 0;
  for await (const chunk of createReadStream(join(folder, FILES.rows), { highWaterMark: 4 * R })) {
    native.addPoint([...new Float32Array(Uint8Array.from(chunk).buffer)], row++);
  }
  return native;
}
