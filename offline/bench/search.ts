/**
 * The search against native brute force, on real influence vectors: those of the demonstration, and, for more rows than it has,
 * further ones drawn from them with noise. Every comparison is interleaved; figures are medians.
 */
import { createReadStream, linkSync, mkdtempSync, rmSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import hnswlib from "hnswlib-node";
import { unstable_startWorker } from "wrangler";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { prepareQuery } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { loadResident } from "../../src/core/resident.ts";
import { scan } from "../../src/core/scan.ts";
import { openTier } from "../../src/core/search.ts";
import { prepareDemonstration } from "../command/demonstration.ts";
import { progressTo } from "../command/progress.ts";
import { median, quantile } from "../evaluate/statistics.ts";
import { describeFile } from "../index/index-files.ts";
import { indexRows } from "../index/index-rows.ts";
import { loadKernel } from "../serve/kernel.ts";
import { folderSource } from "../store/folder-source.ts";
import { readManifest } from "../store/publish.ts";
import { atMost, type Figure } from "./figure.ts";

const ROWS = 100_000;
const TOP = 10;
const BATCH = 64;
const ROUNDS = 60;
/** What an isolate may hold: wrangler.toml. */
const ISOLATE_BYTES = 80_000_000;

export async function measure(): Promise<Figure[]> {
  const { index } = await prepareDemonstration(progressTo("lines"));
  const queries = await readQueries(index);
  const folder = mkdtempSync(join(tmpdir(), "influence-bench-"));
  try {
    const manifest = await enlarge(index, folder);
    return [
      ...(await measureNode(folder, manifest, queries)),
      ...(await measureWorkerd(folder, manifest, queries)),
      ...(await measureGrowth(folder, manifest, queries)),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** BATCH of the stored queries, spread over all of them. */
async function readQueries(index: string): Promise<Float32Array[]> {
  const { dimension, queries } = readManifest(index);
  const bytes = await readFile(join(index, FILES.queries));
  const step = Math.floor(queries / BATCH);
  return Array.from({ length: BATCH }, (_, query) => {
    const start = 4 * dimension * step * query;
    return new Float32Array(Uint8Array.from(bytes.subarray(start, start + 4 * dimension)).buffer);
  });
}

/** An index of ROWS rows in `folder`: those of `index`, then rows of it again, each value with a tenth of noise. */
async function enlarge(index: string, folder: string): Promise<Manifest> {
  const manifest = readManifest(index);
  const { n, dimension: R } = manifest;
  const generator = random(1, "bench");
  const source = await readFile(join(index, FILES.rows));
  const rows = new Float32Array(source.buffer, source.byteOffset, n * R);
  const queryMeanSquare = new Float64Array(R).fill(1);
  const file = await open(join(folder, FILES.rows), "w");
  await file.write(rows);
  for (let row = n; row < ROWS; row++) {
    const like = generator.below(n) * R;
    await file.write(rows.subarray(like, like + R).map((value) => value * (1 + 0.1 * generator.normal())));
  }
  await file.close();
  const stored = await readFile(join(index, FILES.queries));
  new Float32Array(stored.buffer, stored.byteOffset, stored.length / 4).forEach((value, at) => {
    queryMeanSquare[at % R] += value * value;
  });
  await indexRows(folder, { n: ROWS, R, queryMeanSquare, seed: 1 });
  const files = { ...manifest.files };
  for (const name of [FILES.basis, FILES.coarse, FILES.fine, FILES.long, FILES.rows, FILES.rowChecksums]) {
    files[name] = await describeFile(folder, name);
  }
  const enlarged = { ...manifest, n: ROWS, files };
  await writeFile(join(folder, FILES.manifest), JSON.stringify(enlarged));
  linkSync(join(index, FILES.queries), join(folder, FILES.queries));
  return enlarged;
}

async function milliseconds(run: () => unknown): Promise<number> {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

async function measureNode(folder: string, manifest: Manifest, queries: Float32Array[]): Promise<Figure[]> {
  const { n, dimension: R } = manifest;
  const searcher = await openTier(manifest, folderSource(folder), loadKernel(), "rows");
  const resident = await loadResident(manifest, folderSource(folder), loadKernel(), "coarse");
  const everyRow = { ...resident, ceilings: resident.ceilings.map(() => Number.POSITIVE_INFINITY) };
  const native = await nativeBruteForce(folder, n, R);

  const one: number[] = [];
  const every: number[] = [];
  const brute: number[] = [];
  const batch: number[] = [];
  const single: number[] = [];
  const survivors: number[] = [];
  const scanned: number[] = [];
  for (let round = -10; round < ROUNDS; round++) {
    const gradient = queries[(round + 10) % BATCH];
    const list = [...gradient];
    const query = prepareQuery(resident.basis, gradient)!;
    const times = [
      await milliseconds(() => searcher.search(gradient, TOP)),
      await milliseconds(() => scan(everyRow, [query], TOP, null)),
      await milliseconds(() => native.searchKnn(list, TOP)),
    ];
    if (round < 0) continue;
    for (const [at, all] of [one, every, brute].entries()) all.push(times[at]);
    const answer = await searcher.search(gradient, TOP);
    survivors.push((100 * answer.survivors) / n);
    scanned.push(answer.scanned);
    if (round % 10 > 0) continue;
    batch.push(await milliseconds(() => searcher.searchBatch(queries, TOP)));
    single.push(
      await milliseconds(async () => {
        for (const each of queries) await searcher.search(each, TOP);
      }),
    );
  }
  const bytes = Math.round(median(scanned) * R);
  const name = `search: n = ${n}, R = ${R}, top ${TOP} of both ends, certified`;
  return [
    atMost(`${name}, on Node`, median(one), "ms"),
    atMost(`${name}, on Node, p99`, quantile(one, 0.99), "ms"),
    atMost(`${name}, on Node, scanning every row`, median(every), "ms"),
    atMost("search: native brute force (hnswlib, float32, one end), same rows", median(brute), "ms"),
    atMost(`${name}, on Node, against native`, median(one) / median(brute), "×", 0.25),
    atMost(`${name}, on Node, scanning every row, against native`, median(every) / median(brute), "×", 0.25),
    atMost(`${name}: bytes of codes read a query, of ${n * R}`, bytes, "bytes"),
    atMost(`${name}: rows re-scored`, median(survivors), "% of n", 1),
    atMost(
      `${name}: ${BATCH} queries in a batch against ${BATCH} single ones`,
      median(batch) / median(single),
      "×",
      0.3,
    ),
  ];
}

/** Cost against n and R: the first n rows and the first R coordinates of the same index. */
async function measureGrowth(from: string, manifest: Manifest, queries: Float32Array[]): Promise<Figure[]> {
  const { n: most, dimension: width } = manifest;
  const figures: Figure[] = [];
  for (const [n, R] of [
    [10_000, width],
    [30_000, width],
    [most, 64],
    [most, 128],
    [most, 256],
  ]) {
    const folder = mkdtempSync(join(tmpdir(), "influence-bench-"));
    try {
      const rows = await open(join(folder, FILES.rows), "w");
      const whole = createReadStream(join(from, FILES.rows), { highWaterMark: 4 * width, end: 4 * width * n - 1 });
      for await (const row of whole) await rows.write(row, 0, 4 * R);
      await rows.close();
      await indexRows(folder, { n, R, queryMeanSquare: new Float64Array(R).fill(1), seed: 1 });
      const files: Manifest["files"] = {};
      for (const name of [FILES.basis, FILES.coarse, FILES.fine, FILES.long, FILES.rows, FILES.rowChecksums]) {
        files[name] = await describeFile(folder, name);
      }
      const searcher = await openTier(
        { ...manifest, n, dimension: R, files },
        folderSource(folder),
        loadKernel(),
        "rows",
      );
      const times: number[] = [];
      for (let round = 0; round < 4 * BATCH; round++) {
        const gradient = queries[round % BATCH].slice(0, R);
        const elapsed = await milliseconds(() => searcher.search(gradient, TOP));
        if (round >= BATCH) times.push(elapsed);
      }
      figures.push(atMost(`search: n = ${n}, R = ${R}, on Node`, median(times), "ms"));
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  return figures;
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

/** The same index in workerd, within an isolate's budget; its clock stands still while it computes, so it is timed from here. */
async function measureWorkerd(folder: string, manifest: Manifest, queries: Float32Array[]): Promise<Figure[]> {
  const files = await serveFolder(folder);
  const worker = await unstable_startWorker({
    name: "search-bench",
    entrypoint: "src/search-bench.ts",
    compatibilityDate: "2026-10-01",
    dev: { server: { port: 0 }, logLevel: "error" },
  });
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
    const [open, firstSearch] = [`/open?origin=${origin}&budget=${2 * ISOLATE_BYTES}`, "/search?count=1"];
    const held = [FILES.basis, FILES.coarse, FILES.long, FILES.rowChecksums].map((file) => `&file=${file}`).join("");
    const cold: number[] = [];
    const stream: number[] = [];
    for (let round = 0; round < 7; round++) {
      stream.push(await milliseconds(() => ask(`/stream?origin=${origin}${held}`)));
      cold.push(
        await milliseconds(async () => {
          await ask(open);
          await ask(firstSearch, body);
        }),
      );
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
