/** The same graphs in a browser: onnxruntime-web's WebAssembly provider in Chromium against onnxruntime-node's CPU provider. */
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Tensor } from "onnxruntime-node";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as z from "zod";
import { compileCalibrated } from "./calibrated.ts";
import { digitFeeds, digitModel } from "./digits.ts";
import { feedsOf, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const RUNTIME = new URL("../../node_modules/onnxruntime-web/dist/", import.meta.url);

const PAGE = `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  import { env, InferenceSession, Tensor } from "/runtime/ort.wasm.min.mjs";
  env.wasm.wasmPaths = "/runtime/";
  env.wasm.numThreads = 1;
  const ENTRIES = {
    float32: (data) => Float32Array.from(data, Number),
    int64: (data) => BigInt64Array.from(data, BigInt),
  };
  globalThis.gradientOf = async (feeds) => {
    const session = await InferenceSession.create("/gradient.onnx", { executionProviders: ["wasm"] });
    const inputs = Object.fromEntries(
      Object.entries(feeds).map(([name, { type, dims, data }]) => [name, new Tensor(type, ENTRIES[type](data), dims)]),
    );
    const { loss, gradient } = await session.run(inputs, ["loss", "gradient"]);
    await session.release();
    return { loss: [...loss.data], gradient: [...gradient.data] };
  };
</script>`;

const TYPES = new Map([
  [".mjs", "text/javascript"],
  [".wasm", "application/wasm"],
]);

let server: Server;
let address: string;
let browser: Browser;
let page: Page;
/** What the server gives as /gradient.onnx. */
let served = new Uint8Array();
/** Errors on the page, and requests to anyone but its own server. */
const faults: string[] = [];

async function answer(path: string): Promise<{ type: string; body: Uint8Array | string }> {
  if (path === "/") return { type: "text/html", body: PAGE };
  if (path === "/gradient.onnx") return { type: "application/octet-stream", body: served };
  const file = /^\/runtime\/([\w.-]+)$/.exec(path)?.[1] ?? "";
  return { type: TYPES.get(extname(file)) ?? "text/plain", body: await readFile(new URL(file, RUNTIME)) };
}

beforeAll(async () => {
  server = createServer((request, response) => {
    answer(request.url ?? "/").then(
      ({ type, body }) => response.setHeader("content-type", type).end(body),
      (error: unknown) => response.writeHead(404).end(String(error)),
    );
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const bound = server.address();
  address = `http://127.0.0.1:${typeof bound === "object" ? bound?.port : bound}`;
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking"],
  });
  page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (request) => {
    if (/^https?:/.test(request.url()) && !request.url().startsWith(`${address}/`)) faults.push(request.url());
  });
  await page.goto(address);
});
afterAll(async () => {
  await browser?.close();
  server?.close();
});

const results = z.object({ loss: z.array(z.number()), gradient: z.array(z.number()) });

/** The graph's outputs as the page computes them. */
async function inBrowser(graph: Uint8Array, feeds: Record<string, Tensor>) {
  served = Uint8Array.from(graph);
  const plain = Object.entries(feeds).map(([name, { type, dims, data }]) => [
    name,
    { type, dims, data: Array.from<unknown, string>(data, String) },
  ]);
  return results.parse(await page.evaluate(`gradientOf(${JSON.stringify(Object.fromEntries(plain))})`));
}

const zoo = (file: string) => fileURLToPath(new URL(`../../fixtures/zoo/${file}`, import.meta.url));

test.each([
  ["the digit classifier", "cross-entropy", digitModel, () => digitFeeds, "uniform"],
  ["the digit classifier in its eigenbasis", "cross-entropy", digitModel, () => digitFeeds, "eigenbasis"],
  ...(["mlp", "resnet9", "gpt2"] as const).map(
    (name) =>
      [
        name,
        name === "gpt2" ? "next-token" : "cross-entropy",
        zoo(`${name}.onnx`),
        () => readSafetensors(zoo(`${name}.safetensors`)).arrays,
        "uniform",
      ] as const,
  ),
] as const)("%s in Chromium equals onnxruntime-node's CPU to 1e-3", async (_, loss, model, arrays, compressor) => {
  const options = { loss, r: { perLayer: 128 }, compressor, seed: 1 } as const;
  const compiled = await compileCalibrated(model, options, (ports) => feedsOf(ports, arrays()));
  const feeds = feedsOf(compiled, arrays());
  const expected = await (await runner(compiled.graph))(feeds);
  const got = await inBrowser(compiled.graph, feeds);
  expect(relativeError(got.loss, expected.loss)).toBeLessThan(1e-3);
  expect(relativeError(got.gradient, expected.gradient)).toBeLessThan(1e-3);
  expect(faults).toEqual([]);
});
