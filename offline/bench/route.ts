/**
 * Requests per second of the whole route: body, validation, search, metadata, answer; against an empty hono route in the same
 * workerd, which has one thread, and against one that takes the same body and gives as long an answer. workerd runs by itself, without
 * the development server's proxies; the routes take turns, and so do several processes. On Linux only: it counts processor time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { untilAnswered } from "../command/demonstration.ts";
import { median } from "../evaluate/statistics.ts";
import { folderBucket } from "../store/folder-bucket.ts";
import { readManifest } from "../store/publish.ts";
import { atLeast, atMost, type Figure, quotient } from "./figure.ts";
import { demonstrationWith, readQueries } from "./vectors.ts";

const ROWS = 10_000;
const QUERIES = 64;
const BATCH = 64;
/** Processes that take turns as well: quotients of two starts of one program differ by up to a tenth. */
const PROCESSES = 3;
/** Requests of one turn, and turns of each route before the first that counts: V8 goes on optimising for some 20,000 requests. */
const REQUESTS = 504;
const WARM_UP = 40;
const CONNECTIONS = 8;
const ROUNDS = 20;
const PORT = 8971;

export async function measure(): Promise<Figure[]> {
  const index = await demonstrationWith("mnist-10000", (config) => ({
    ...config,
    train: { ...config.train, limit: ROWS },
  }));
  const queries = readQueries(index, QUERIES);
  const folder = mkdtempSync(join(tmpdir(), "influence-bench-"));
  const { dimension, name } = readManifest(index);
  const objects = await serveObjects(index);
  await bundleWorker(folder);
  const workers = Array.from({ length: PROCESSES }, (_, process) => {
    const port = PORT + process;
    return { port, worker: startWorkerd(folder, port, (objects.address() as AddressInfo).port) };
  });
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const empty: number[] = [];
  const whole: number[] = [];
  const packed: number[] = [];
  const echoes: number[] = [];
  const batches: number[] = [];
  try {
    const bodies = queries.map((query) => Buffer.from(query.buffer));
    const path = `/v1/indexes/${name}/influence`;
    const ask = (port: number, at: number, accept?: string) => send(agent, port, path, bodies[at % QUERIES]!, accept);
    const batch = (port: number) =>
      send(agent, port, `${path}?queries=${BATCH}`, Buffer.concat(bodies.slice(0, BATCH)));
    const turns = [
      { rates: empty, work: (port: number) => send(agent, port, "/empty") },
      { rates: whole, work: (port: number, at: number) => ask(port, at) },
      { rates: packed, work: (port: number, at: number) => ask(port, at, "application/msgpack") },
      { rates: echoes, work: (port: number, at: number) => send(agent, port, "/echo", bodies[at % QUERIES]!) },
    ];
    for (const { port, worker } of workers) await untilAnswered(`http://127.0.0.1:${port}/empty`, worker);
    for (let round = -WARM_UP; round < ROUNDS; round++) {
      for (const { port, worker } of workers) {
        for (const { rates, work } of turns) {
          const measured = await rate(REQUESTS, (at) => work(port, at), worker);
          if (round >= 0) rates.push(measured);
        }
        const singles = await seconds(() => inTurn(BATCH, (at) => ask(port, at)));
        const together = await seconds(() => batch(port));
        if (round >= 0) batches.push(together / singles);
      }
    }
    const title = `route: POST influence, n = ${ROWS}, R = ${dimension}`;
    return [
      atMost(`${title}, in workerd`, median(whole), "requests per second of processor time"),
      atMost("route: an empty hono route in the same workerd", median(empty), "requests per second of processor time"),
      atLeast(`${title} ÷ the empty route`, quotient(whole, empty), "×", 0.5),
      // Medians leave out the rare rounds in which the runtime collects all that requests have left behind.
      atMost(`${title} ÷ the empty route, all rounds together`, spent(empty) / spent(whole), "×"),
      atMost(`${title}, answered in MessagePack ÷ the empty route`, quotient(packed, empty), "×"),
      atMost(`${title} ÷ a route that only takes the body and answers as much`, quotient(whole, echoes), "×"),
      atMost(
        `route: ${BATCH} queries in one request ÷ ${BATCH} requests, one after another`,
        median(batches),
        "×",
        0.3,
      ),
    ];
  } finally {
    agent.destroy();
    for (const { worker } of workers) worker.kill();
    objects.close();
    rmSync(folder, { recursive: true });
  }
}

/** Processor time of as many requests at each of these rates, up to a factor. */
const spent = (rates: readonly number[]): number => rates.reduce((sum, each) => sum + 1 / each, 0);

/** The index as objects under the keys of a bucket. */
async function serveObjects(index: string): Promise<Server> {
  const { bucket } = await folderBucket([index]);
  const server = createServer(async (asked, response) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(asked.headers.range ?? "") ?? [];
    const range = first === undefined ? undefined : { offset: Number(first), length: Number(last) - Number(first) + 1 };
    const object = await bucket.get((asked.url ?? "").slice(1), range ? { range } : {});
    if (object === null || !("body" in object)) response.writeHead(404).end();
    else response.end(await object.bytes());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** Bundles src/route-bench.ts into `folder`, and lays its kernel beside it. */
async function bundleWorker(folder: string): Promise<void> {
  const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url));
  await build({
    entryPoints: [source("route-bench.ts")],
    outfile: join(folder, "worker.js"),
    bundle: true,
    format: "esm",
    target: "es2023",
    external: ["*.wasm", "node:*"],
    logLevel: "error",
  });
  writeFileSync(join(folder, "kernel.wasm"), readFileSync(source("core/kernel/scan-relaxed.wasm")));
}

/** Runs what is bundled in `folder` in workerd, at that port of this machine. */
function startWorkerd(folder: string, port: number, objects: number): ChildProcess {
  const configuration = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    (name = "network", network = (allow = ["private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
const worker :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "core/kernel/scan-relaxed.wasm", wasm = embed "kernel.wasm"),
  ],
  bindings = [
    (name = "ORIGIN", text = "http://127.0.0.1:${objects}"),
    (name = "RESIDENT_BYTES", text = "80000000"),
  ],
  compatibilityDate = "2026-10-01",
  compatibilityFlags = ["nodejs_compat"],
  globalOutbound = "network",
);
`;
  const file = join(folder, `${port}.capnp`);
  writeFileSync(file, configuration);
  const workerd = fileURLToPath(import.meta.resolve("workerd/bin/workerd"));
  return spawn(workerd, ["serve", file], { stdio: "inherit" });
}

/** One request, to its last byte. Throws an Error for any answer but 200. */
function send(agent: Agent, port: number, path: string, body?: Buffer, accept?: string): Promise<void> {
  return new Promise((settle, fail) => {
    const headers = body && {
      "Content-Type": "application/octet-stream",
      "Content-Length": body.length,
      ...(accept !== undefined && { Accept: accept }),
    };
    const options = { agent, host: "127.0.0.1", port, path, method: body ? "POST" : "GET", headers };
    const asked = request(options, (response) => {
      response.on("end", () =>
        response.statusCode === 200
          ? settle()
          : fail(new Error(`${path}: expected 200, got ${response.statusCode}; see workerd's messages`)),
      );
      response.resume();
    });
    asked.on("error", fail);
    asked.end(body);
  });
}

async function inTurn(count: number, work: (at: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < count; at++) await work(at);
}

async function seconds(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Requests over all connections, per second of processor time that workerd took: what else the machine does hardly shows. */
async function rate(count: number, work: (at: number) => Promise<void>, worker: ChildProcess): Promise<number> {
  const each = Math.ceil(count / CONNECTIONS);
  const before = processorSeconds(worker);
  await Promise.all(Array.from({ length: CONNECTIONS }, () => inTurn(each, work)));
  return (each * CONNECTIONS) / (processorSeconds(worker) - before);
}

/** Time of all threads of a process on a processor, in seconds: the first field of Linux's /proc/PID/task/TID/schedstat, in nanoseconds. */
function processorSeconds({ pid }: ChildProcess): number {
  const folder = `/proc/${pid}/task`;
  const spent = (thread: string) => Number(readFileSync(`${folder}/${thread}/schedstat`, "utf8").split(" ")[0]);
  return readdirSync(folder).reduce((sum, thread) => sum + spent(thread), 0) / 1e9;
}
