/**
 * The search against native brute force, on real influence vectors: those of the demonstration, and, for more rows than it has,
 * further ones drawn from them with noise; and how many rows are re-scored on those of other kinds of model. Medians of rounds
 * that take turns.
 */
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { strideOf } from "../../src/core/plane.ts";
import { openTier } from "../../src/core/search.ts";
import { progressTo } from "../command/progress.ts";
import { median, quantile } from "../evaluate/statistics.ts";
import { loadKernel } from "../serve/kernel.ts";
import { folderSource } from "../store/folder-source.ts";
import { readManifest } from "../store/publish.ts";
import { atMost, type Figure } from "./figure.ts";
import { prepareIndexes } from "./real-indexes.ts";
import { RESIDENT_BYTES, startSearchWorker } from "./search-worker.ts";
import { checkAnswer, cutIndex, demonstration, milliseconds, readQueries, TOP, timeSearch } from "./vectors.ts";

const ROWS = 100_000;
const BATCH = 64;
const ROUNDS = 60;
/** Queries of each kind of model whose answers are checked. */
const CHECKED = 5;

export async function measure(): Promise<Figure[]> {
  const index = await demonstration();
  const { dimension } = readManifest(index);
  const queries = readQueries(index, BATCH);
  const folder = mkdtempSync(join(tmpdir(), "influence-bench-"));
  try {
    const manifest = await cutIndex(index, folder, ROWS, dimension);
    const native = await timeSearch(folder, manifest, queries, ROUNDS);
    const name = `search: n = ${ROWS}, R = ${dimension}, top ${TOP} of both ends, certified`;
    return [
      atMost(`${name}, on Node`, native.one, "ms"),
      atMost(`${name}, on Node, p99`, native.p99, "ms"),
      atMost(`${name}, on Node, scanning every row`, native.every, "ms"),
      atMost("search: native brute force (hnswlib, float32, one end), same rows", native.native, "ms"),
      atMost(`${name}, on Node, against native`, native.one / native.native, "×", 0.25),
      atMost(`${name}, on Node, scanning every row, against native`, native.every / native.native, "×", 0.25),
      atMost(`${name}: bytes of codes read a query, of ${ROWS * strideOf(dimension)}`, native.bytes, "bytes"),
      ...(await measureBatch(folder, manifest, queries)),
      ...(await measureWorkerd(folder, manifest, queries, native.native)),
      ...(await measureKinds(index)),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measureBatch(folder: string, manifest: Manifest, queries: Float32Array[]): Promise<Figure[]> {
  const searcher = await openTier(manifest, folderSource(folder), loadKernel(), "rows");
  const batch: number[] = [];
  const single: number[] = [];
  for (let round = -2; round < 7; round++) {
    const times = [
      await milliseconds(() => searcher.searchBatch(queries, TOP)),
      await milliseconds(async () => {
        for (const each of queries) await searcher.search(each, TOP);
      }),
    ];
    if (round < 0) continue;
    batch.push(times[0]!);
    single.push(times[1]!);
  }
  return [
    atMost(
      `search: n = ${ROWS}, ${BATCH} queries in a batch against ${BATCH} single ones`,
      median(batch) / median(single),
      "×",
      0.3,
    ),
  ];
}

/** Rows that the bound leaves to be re-scored, by kind of model; the first answers are checked against brute force. */
async function measureKinds(digits: string): Promise<Figure[]> {
  const kinds = new Map([["CNN, digits", digits], ...(await prepareIndexes(progressTo("lines")))]);
  const figures: Figure[] = [];
  for (const [kind, index] of kinds) {
    const manifest = readManifest(index);
    const searcher = await openTier(manifest, folderSource(index), loadKernel(), "coarse");
    const shares: number[] = [];
    const read: number[] = [];
    const bytes: number[] = [];
    for (const [at, query] of readQueries(index, Math.min(200, manifest.queries)).entries()) {
      const answer = await searcher.search(query, TOP);
      const { rescored, scanned, codeBytes } = answer;
      if (at < CHECKED) await checkAnswer(index, query, answer);
      shares.push((100 * rescored) / manifest.n);
      read.push((100 * scanned) / manifest.n);
      bytes.push((100 * codeBytes) / (manifest.n * strideOf(manifest.dimension)));
    }
    const name = `search: ${kind}, n = ${manifest.n}, R = ${manifest.dimension}, top ${TOP} of both ends`;
    figures.push(
      atMost(`${name}: rows re-scored`, median(shares), "% of n", 1),
      atMost(`${name}: rows re-scored, 95 %`, quantile(shares, 0.95), "% of n"),
      atMost(`${name}: rows scanned`, median(read), "% of n"),
      atMost(`${name}: codes read`, median(bytes), "% of all"),
    );
  }
  return figures;
}

/** The same index in workerd, within an isolate's budget; its clock stands still while it computes, so it is timed from here. */
async function measureWorkerd(
  folder: string,
  manifest: Manifest,
  queries: Float32Array[],
  native: number,
): Promise<Figure[]> {
  const files = await serveFolder(folder);
  const worker = await startSearchWorker();
  try {
    const body = new Uint8Array(
      await new Blob(queries.map((query) => Uint8Array.from(new Uint8Array(query.buffer)))).arrayBuffer(),
    );
    const ask = async (path: string, content?: Uint8Array<ArrayBuffer>) => {
      const response = await worker.fetch(`http://bench${path}`, content ? { method: "POST", body: content } : {});
      if (!response.ok) throw new Error(`${path}: expected 200, got ${response.status}: ${await response.text()}`);
      return response.json();
    };
    const origin = `http://127.0.0.1:${(files.address() as AddressInfo).port}`;
    const open = `/open?origin=${origin}&budget=${2 * RESIDENT_BYTES}&count=1`;
    const mixing = manifest.mixing === undefined ? [] : [FILES.mixing];
    const loaded = [FILES.basis, ...mixing, FILES.coarse, FILES.long, FILES.rowChecksums];
    const held = loaded.map((file) => `&file=${file}`).join("");
    const cold: number[] = [];
    const stream: number[] = [];
    for (let round = 0; round < 7; round++) {
      stream.push(await milliseconds(() => ask(`/stream?origin=${origin}${held}`)));
      cold.push(await milliseconds(() => ask(open, body)));
    }
    await ask(`/search?count=${10 * BATCH}`, body);
    const times: number[] = [];
    for (let round = 0; round < 11; round++) {
      const many = await milliseconds(() => ask(`/search?count=${4 * BATCH}`, body));
      const few = await milliseconds(() => ask(`/search?count=${BATCH}`, body));
      times.push((many - few) / (3 * BATCH));
    }
    const name = `search: n = ${manifest.n}, R = ${manifest.dimension}, top ${TOP} of both ends, certified, in workerd`;
    return [
      atMost(name, median(times), "ms", 3),
      atMost(`${name}, against native brute force outside it`, median(times) / native, "×", 0.25),
      atMost(`${name}: opening it and the first answer`, median(cold), "ms"),
      atMost(`${name}: that against only streaming the same bytes`, median(cold) / median(stream), "×", 1.5),
    ];
  } finally {
    await worker.dispose();
    files.close();
  }
}

/** A folder's files over HTTP, whole or by range. */
export function serveFolder(folder: string): Promise<Server> {
  const server = createServer((request, response) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const range = first === undefined ? {} : { start: Number(first), end: Number(last) };
    response.statusCode = first === undefined ? 200 : 206;
    createReadStream(join(folder, request.url ?? ""), { ...range, highWaterMark: 1 << 20 }).pipe(response);
  });
  return new Promise((settle) => server.listen(0, "127.0.0.1", () => settle(server)));
}
