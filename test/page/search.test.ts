/** The search in Chromium, by kernels that it fetches, over an index's files that plain HTTP serves. */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FILES } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { addressesOf } from "../../src/core/resident.ts";
import { type BuiltIndex, buildIndex } from "../search/built-index.ts";
import { bruteForce } from "../search/oracle.ts";
import { openBrowser } from "./browser.ts";

const source = (file: string) => fileURLToPath(new URL(`../../src/${file}`, import.meta.url));
const [n, R, K] = [8000, 96, 12];
const generator = random(9, "browser");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
const rows = normal(n * R);
/** Opens the index and asks it. */
const PAGE = `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  import { openSearcher, browserKernel, httpSource } from "/search.js";
  globalThis.searched = async ({ manifest, gradient, budget, k }) => {
    const kernel = await browserKernel("/kernel/");
    const searcher = await openSearcher(manifest, httpSource("/index/"), kernel, budget);
    return { ...(await searcher.search(Float32Array.from(gradient), k)), held: searcher.held };
  };
</script>`;
let index: BuiltIndex;
let server: Server;
let address: string;
let browser: Browser;
let page: Page;
/** Paths that the page asked for. */
const asked: string[] = [];
/** Kernels that the server has. */
let kernels: string[] = [];
/** A file of the index that the server gives altered. */
let altered = "";

async function bundle(): Promise<Uint8Array> {
  const contents = `export { openSearcher } from ${JSON.stringify(source("core/search.ts"))};
    export { browserKernel, httpSource } from ${JSON.stringify(source("web/search.ts"))};`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: source("."), loader: "ts" },
    bundle: true,
    format: "esm",
    target: "es2023",
    write: false,
  });
  return outputFiles[0].contents;
}

/** The bytes at a path of the server, null where there are none. */
async function bytesAt(route: string): Promise<Uint8Array | null> {
  const [, folder, file] = route.split("/");
  if (folder === "search.js") return await bundle();
  if (folder === "kernel") return kernels.includes(file) ? await readFile(source(`core/kernel/${file}`)) : null;
  const bytes = await readFile(path.join(index.folder, file));
  if (file === altered) bytes[bytes.length - 1] ^= 1;
  return bytes;
}

beforeAll(async () => {
  index = await buildIndex(rows, R);
  server = createServer(async (request, response) => {
    const route = request.url ?? "/";
    asked.push(route);
    if (route === "/") return response.setHeader("content-type", "text/html").end(PAGE);
    const bytes = await bytesAt(route);
    if (bytes === null) return response.writeHead(404).end();
    const type = route.endsWith(".js") ? "text/javascript" : "application/octet-stream";
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    if (first === undefined) return response.writeHead(200, { "content-type": type }).end(bytes);
    return response.writeHead(206, { "content-type": type }).end(bytes.subarray(Number(first), Number(last) + 1));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const bound = server.address();
  address = `http://127.0.0.1:${typeof bound === "object" ? bound?.port : bound}/`;
  browser = await openBrowser();
  page = await browser.newPage();
  await page.goto(address);
  await page.waitForFunction("globalThis.searched !== undefined");
});
afterAll(async () => {
  await browser.close();
  server.close();
  await index.remove();
});

/** What the browser answers to a query, with so many bytes of memory for the index. */
function searched(gradient: Float32Array, budget: number): Promise<unknown> {
  const given = { manifest: index.manifest, gradient: [...gradient], budget, k: K };
  return page.evaluate(`searched(${JSON.stringify(given)})`);
}

test.each([
  ["all rows in memory, by the relaxed kernel", ["scan-relaxed.wasm", "scan-simd.wasm"], 1e9, "rows"],
  ["rows read by range", ["scan-relaxed.wasm"], addressesOf(n, R, "coarse").end, "coarse"],
])("answers are brute force's with %s", async (_, served, budget, held) => {
  kernels = served;
  asked.length = 0;
  const gradient = normal(R);
  expect(await searched(gradient, budget)).toMatchObject({ ...bruteForce(rows, gradient, K), exact: true, held });
  expect(asked.filter((route) => route.startsWith("/kernel/"))).toEqual(["/kernel/scan-relaxed.wasm"]);
  expect(asked.includes(`/index/${FILES.rows}`) || asked.includes(`/index/${FILES.long}`)).toBe(true);
});

test("an altered file is refused by name", async () => {
  altered = FILES.coarse;
  await expect(searched(normal(R), 1e9)).rejects.toThrow(/coarse\.bin: expected xxh64/);
  altered = "";
});

test("a server without the kernels is named", async () => {
  kernels = [];
  await expect(searched(normal(R), 1e9)).rejects.toThrow(/scan-relaxed\.wasm: expected the kernel below \/kernel\//);
});
