/**
 * A query over the demonstration's 60,000 rows inside workerd. A Worker's clock moves in steps of 1 ms and the development
 * server's proxies take longer than a query, so compute is measured by repetition: the round trip of a request that searches
 * for one query 21 times, less that of a request that searches once, divided by 20.
 */
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { FILES } from "../../src/core/manifest.ts";
import { median, quantile } from "../evaluate/statistics.ts";
import { readFloatRow } from "../serve/query.ts";
import { readManifest } from "../store/publish.ts";
import { atMost, type Figure } from "./figure.ts";
import { serveFolder } from "./search.ts";
import { RESIDENT_BYTES, startSearchWorker } from "./search-worker.ts";
import { demonstration } from "./vectors.ts";

const QUERIES = 100;
const REPEATS = 20;

export async function measure(): Promise<Figure[]> {
  const index = await demonstration();
  const { dimension, n, queries } = readManifest(index);
  const files = await serveFolder(index);
  const worker = await startSearchWorker();
  const ask = async (path: string, body?: Uint8Array<ArrayBuffer>): Promise<number> => {
    const started = performance.now();
    const response = await worker.fetch(`http://bench${path}`, body ? { method: "POST", body } : {});
    await response.text();
    if (!response.ok) throw new Error(`${path}: expected 200, got ${response.status}`);
    return performance.now() - started;
  };
  try {
    await ask(`/open?origin=http://127.0.0.1:${(files.address() as AddressInfo).port}&budget=${RESIDENT_BYTES}`);
    const compute: number[] = [];
    for (let q = 0; q < QUERIES; q++) {
      const row = Math.floor((q * queries) / QUERIES);
      const body = new Uint8Array(readFloatRow(join(index, FILES.queries), row, dimension).slice().buffer);
      await ask("/search?count=2", body);
      const rounds: number[] = [];
      for (let round = 0; round < 3; round++) {
        const once = await ask("/search?count=1", body);
        rounds.push((await ask(`/search?count=${REPEATS + 1}`, body)) - once);
      }
      compute.push(median(rounds) / REPEATS);
    }
    const name = `edge: compute of a query in workerd, ${n} rows, R = ${dimension}, top 10 of both ends, certified`;
    return [
      atMost(`${name}, median of ${QUERIES} queries`, median(compute), "ms", 3),
      atMost(`${name}, p99 of ${QUERIES} queries`, quantile(compute, 0.99), "ms", 3),
    ];
  } finally {
    await worker.dispose();
    files.close();
  }
}
