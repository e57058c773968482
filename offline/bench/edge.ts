/**
 * A query over the demonstration's 60,000 rows inside workerd. A Worker's clock moves in steps of 1 ms, so compute is measured
 * from outside: the round trip of a query whose rows are in the isolate already, less that of a route that does nothing,
 * one after the other in turn on one connection.
 */
import { Agent, request } from "node:http";
import { join } from "node:path";
import { FILES } from "../../src/core/manifest.ts";
import { serveDemonstration } from "../demonstration.ts";
import { median, quantile } from "../evaluate/statistics.ts";
import { progressTo } from "../progress.ts";
import { readManifest } from "../publish.ts";
import { readFloatRow, readMetadata } from "../query.ts";
import { atMost, type Figure } from "./figure.ts";

const QUERIES = 200;
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

/** Milliseconds from sending a request to the end of its answer. Throws an Error unless the answer is 200. */
function roundTrip(url: string, body?: Uint8Array): Promise<number> {
  return new Promise((settle, fail) => {
    const started = performance.now();
    const headers = body ? { "content-type": "application/octet-stream" } : {};
    const sent = request(url, { agent, method: body ? "POST" : "GET", headers }, (response) => {
      response.resume();
      response.once("end", () => {
        const elapsed = performance.now() - started;
        if (response.statusCode === 200) settle(elapsed);
        else fail(new Error(`${url}: expected 200, got ${response.statusCode}`));
      });
    });
    sent.once("error", fail);
    sent.end(body);
  });
}

export async function measure(): Promise<Figure[]> {
  const { config, index, address, worker } = await serveDemonstration(progressTo("lines"));
  const { dimension, n } = readManifest(index);
  const { ids } = readMetadata(index, FILES.queryMetadata);
  try {
    const influence = `${address}/v1/indexes/${config.name}/influence?topK=10`;
    const queries: number[] = [];
    const firsts: number[] = [];
    const empty: number[] = [];
    const step = Math.floor(ids.length / QUERIES);
    for (let q = 0; q < QUERIES; q++) {
      const gradient = readFloatRow(join(index, FILES.queries), q * step, dimension);
      const body = new Uint8Array(gradient.buffer);
      // The first time reads the top rows from R2; the second finds them in the isolate.
      firsts.push(await roundTrip(influence, body));
      queries.push(await roundTrip(influence, body));
      empty.push(await roundTrip(`${address}/healthz`));
    }
    const idle = median(empty);
    const compute = queries.map((elapsed) => elapsed - idle);
    const name = `edge: query of ${n} rows at R = ${dimension} in workerd`;
    return [
      atMost(`${name}, compute, median`, median(compute), "ms", 3),
      atMost(`${name}, compute, p99`, quantile(compute, 0.99), "ms", 3),
      atMost(`${name}, round trip with its top rows read from R2, median`, median(firsts), "ms"),
      atMost("edge: round trip of an empty route, median", idle, "ms"),
    ];
  } finally {
    worker.kill();
    agent.destroy();
  }
}
