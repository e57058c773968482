import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { type Server, serve } from "../../offline/serve/serve.ts";
import { FILES } from "../../src/core/manifest.ts";
import { syntheticObjects } from "../synthetic.ts";

const R = 32;
const MEMORY = 50e6;
let folder: string;
let server: Server;

/** Writes an index as `influence build` leaves it, and returns its version. */
async function build(into: string, name: string, seed: number): Promise<string> {
  await rm(into, { recursive: true, force: true });
  await mkdir(into, { recursive: true });
  let version = "";
  for (const [key, bytes] of await syntheticObjects({ name, seed, n: 500, queries: 20, images: true })) {
    const [, , inVersion, file] = key.split("/");
    if (file === undefined) continue;
    version = inVersion ?? "";
    await writeFile(path.join(into, file), bytes);
  }
  return version;
}

const runOf = (name: string) => path.join(folder, "runs", name, "index");

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "serve-"));
  await build(runOf("digits"), "digits", 1);
  await build(runOf("others"), "others", 2);
  server = await serve([path.join(folder, "runs")], ON_ANY_PORT);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

const ON_ANY_PORT = { host: "127.0.0.1", port: 0, memory: MEMORY };

const ask = (route: string, init?: RequestInit) => fetch(server.address + route, init);
const post = (route: string, body: unknown) =>
  ask(route, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Float32 [rows][R] of a file of the index. */
async function floatsOf(name: string, file: string): Promise<Float32Array> {
  const bytes = await readFile(path.join(runOf(name), file));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** The most helpful rows by brute force in float64. */
async function bruteForce(name: string, query: number, topK: number) {
  const [rows, queries] = [await floatsOf(name, FILES.rows), await floatsOf(name, FILES.queries)];
  return Array.from({ length: 500 }, (_, row) => {
    let dot = 0;
    for (let j = 0; j < R; j++) dot += (rows[R * row + j] ?? 0) * (queries[R * query + j] ?? 0);
    return { id: `train-${row}`, influence: -dot };
  })
    .sort((one, other) => one.influence - other.influence)
    .slice(0, topK);
}

test("every run of a folder is an index, and its answers are those of brute force", async () => {
  expect(await (await ask("/v1/indexes")).json()).toMatchObject({
    indexes: [{ name: "digits" }, { name: "others" }],
    unavailable: [],
  });
  for (const name of ["digits", "others"]) {
    const answer = await (await post(`/v1/indexes/${name}/influence`, { query: "test-7", topK: 5 })).json();
    expect(answer).toMatchObject({ exact: true, helpful: await bruteForce(name, 7, 5), query: { id: "test-7" } });
  }
  const answer = await (await post("/v1/indexes/digits/influence", { queries: ["test-1", "test-2"], topK: 3 })).json();
  expect(answer).toMatchObject({
    answers: [{ helpful: await bruteForce("digits", 1, 3) }, { helpful: await bruteForce("digits", 2, 3) }],
  });
});

test("runs that are named one by one are served together, two of one name are refused", async () => {
  const both = await serve([runOf("digits"), runOf("others"), runOf("digits")], ON_ANY_PORT);
  expect([...both.folders.keys()]).toEqual(["digits", "others"]);
  await both.close();
  const copy = path.join(folder, "copy");
  await cp(runOf("digits"), copy, { recursive: true });
  await expect(serve([runOf("digits"), copy], ON_ANY_PORT)).rejects.toThrow(
    /copy: expected an index of another name than .*, got "digits" twice; serve one of them/,
  );
});

test("answers of the approximate backend say so, with the recall that was measured", async () => {
  const lines: string[] = [];
  const report = (line: string) => lines.push(line);
  const own = path.join(folder, "graph");
  await cp(runOf("digits"), own, { recursive: true });
  // Servers of one process share what is open, by name.
  const manifest = JSON.parse(await readFile(path.join(own, FILES.manifest), "utf8"));
  await writeFile(path.join(own, FILES.manifest), JSON.stringify({ ...manifest, name: "graph" }));
  for (let round = 0; round < 2; round++) {
    const other = await serve([own], { ...ON_ANY_PORT, approximate: { report } });
    const asked = async (body: unknown) => {
      const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
      return Object(await (await fetch(`${other.address}/v1/indexes/graph/influence`, init)).json());
    };
    const [recall] = /[\d.]+(?= % of the top 10 of both ends)/.exec(lines[round] ?? "") ?? [];
    const answer = await asked({ query: "test-7", topK: 5 });
    expect(answer).toMatchObject({ exact: false, recall: expect.any(Number) });
    expect((100 * answer.recall).toFixed(1)).toBe(recall);
    expect(answer.helpful).toHaveLength(5);
    const batch = await asked({ queries: ["test-1", "test-7"], topK: 5 });
    expect(batch.answers[1]).toMatchObject({ helpful: answer.helpful, exact: false });
    await other.close();
  }
});

test("files come whole: the mask, the gradient graph, images", async () => {
  const bytesAt = async (route: string, accept = "*/*") =>
    Buffer.from(await (await ask(route, { headers: { Accept: accept } })).arrayBuffer());
  const mask = await bytesAt("/v1/indexes/digits/mask", "application/octet-stream");
  expect(mask).toEqual(await readFile(path.join(runOf("digits"), FILES.mask)));
  const graph = await bytesAt("/v1/indexes/digits/gradient.onnx");
  expect(graph).toEqual(await readFile(path.join(runOf("digits"), FILES.gradientGraph)));
  const image = await ask("/v1/indexes/digits/examples/train-7/image");
  expect(image.headers.get("Content-Type")).toBe("image/png");
});

test("the page is served beside the API, with its security headers", async () => {
  for (const [route, type] of [
    ["/", "text/html"],
    ["/page.js", "text/javascript"],
    ["/page.css", "text/css"],
  ] as const) {
    const response = await ask(route);
    expect(response.status).toBe(200);
    expect(response.headers.get("Content-Type")).toContain(type);
    expect(response.headers.get("Content-Security-Policy")).toContain("default-src 'none'");
  }
  expect((await ask("/nothing")).headers.get("Content-Type")).toBe("application/problem+json");
});

test("a build that replaces an index is served without a restart", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  vi.spyOn(console, "error").mockReturnValue(undefined);
  const version = await build(runOf("others"), "others", 3);
  vi.setSystemTime(Date.now() + 60_000);
  const served = async () => {
    const answer = await (await post("/v1/indexes/others/influence", { query: "test-7", topK: 5 })).json();
    return Object(answer);
  };
  await vi.waitUntil(async () => (await served()).index?.version === version, { timeout: 5_000 });
  expect(await served()).toMatchObject({ helpful: await bruteForce("others", 7, 5) });
});

test("an altered file is refused by name", async () => {
  const own = path.join(folder, "altered");
  await cp(runOf("digits"), own, { recursive: true });
  const rows = await readFile(path.join(own, FILES.coarse));
  rows[500] = (rows[500] ?? 0) ^ 0x10;
  await writeFile(path.join(own, FILES.coarse), rows);
  const manifest = JSON.parse(await readFile(path.join(own, FILES.manifest), "utf8"));
  await writeFile(path.join(own, FILES.manifest), JSON.stringify({ ...manifest, name: "altered" }));
  vi.spyOn(console, "error").mockReturnValue(undefined);
  const other = await serve([own], ON_ANY_PORT);
  const response = await fetch(`${other.address}/v1/indexes/altered/influence`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: '{"query":"test-1"}',
  });
  expect(await response.json()).toMatchObject({
    status: 503,
    detail: expect.stringMatching(/coarse\.bin: expected xxh64 [0-9a-f]{16}, got [0-9a-f]{16}/),
  });
  await other.close();
});

test("a folder without an index, two of one name and a taken port are refused", async () => {
  const empty = path.join(folder, "empty");
  await mkdir(empty);
  await expect(serve([empty], ON_ANY_PORT)).rejects.toThrow(/empty: expected manifest\.json of an index/);
  await cp(runOf("digits"), path.join(folder, "twice", "one"), { recursive: true });
  await cp(runOf("digits"), path.join(folder, "twice", "two"), { recursive: true });
  await expect(serve([path.join(folder, "twice")], ON_ANY_PORT)).rejects.toThrow(/got "digits" twice/);
  const port = Number(new URL(server.address).port);
  await expect(serve([runOf("digits")], { ...ON_ANY_PORT, port })).rejects.toThrow(/expected a free port/);
});

const CLI = path.resolve("offline/command/cli.ts");

/** What a command writes and how it exits. */
async function run(...words: string[]) {
  const child = spawn(process.execPath, [CLI, ...words]);
  const written = { out: "", error: "" };
  child.stdout.on("data", (chunk) => {
    written.out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    written.error += chunk;
  });
  const [code] = await once(child, "close");
  return { ...written, code };
}

test("`influence serve` says where it listens, and ends when it is told to", async () => {
  const child = spawn(process.execPath, [CLI, "serve", runOf("digits"), "--port", "0", "--memory", "50MB", "--json"]);
  const [line] = await once(child.stdout, "data");
  const { address, indexes } = JSON.parse(String(line));
  expect(indexes).toEqual(["digits"]);
  expect(await (await fetch(`${address}/readyz`)).json()).toMatchObject({ status: "ready", index: "digits" });
  child.kill("SIGTERM");
  expect((await once(child, "close"))[0]).toBe(0);
});

test("`influence plan` tells what fits", async () => {
  const text = await run("plan", "--n", "60000", "--memory", "64MB", "--r", "4096");
  expect(text).toMatchObject({ code: 0, error: "" });
  expect(text.out).toMatch(
    /^rows: R ≤ \d+ .*\nfine: R ≤ \d+ .*\ncoarse: R ≤ \d+ .*\nR = 4096: needs [\d.]+ MB, does not fit/,
  );
  expect(text.out).toMatch(/% of the rows re-scored; rows read from the store/);
  const own = await run("plan", runOf("digits"), "--memory", "64MB");
  expect(own.out).toMatch(
    /Measured on digits.*\n {2}R = \d+: rows in [\d.]+ MB, [\d.]+ % of the rows re-scored, 0 read/,
  );
  const { out } = await run("plan", "--n", "60000", "--memory", "64MB", "--r", "512", "--json");
  const { largest, chosen } = JSON.parse(out);
  expect(chosen).toMatchObject({ dimension: 512, tier: "coarse" });
  expect(chosen.bytes).toBeLessThanOrEqual(64e6);
  expect(chosen.longest).toBeGreaterThan(10_000);
  expect(largest.map(({ tier }: { tier: string }) => tier)).toEqual(["rows", "fine", "coarse"]);
});

test.for([
  ["plan"],
  ["plan", "--n", "0"],
  ["plan", "."],
  ["plan", "--n", "10", "--memory", "64TB"],
  ["plan", "--n", "10", "--r", "1.5"],
  ["serve"],
  ["serve", ".", "--port", "70000"],
])("%o is refused with what was expected", async (words) => {
  const { code, error } = await run(...words);
  expect(code).not.toBe(0);
  expect(error).toMatch(/expected|required|missing/);
});
