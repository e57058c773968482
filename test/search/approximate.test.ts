import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { APPROXIMATE, buildApproximate, openApproximate } from "../../offline/index/approximate.ts";
import type { Manifest } from "../../src/core/manifest.ts";
import { FILES } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { type Backend, rowBitmap } from "../../src/core/search.ts";
import { type BuiltIndex, buildIndex, manifestOf } from "./built-index.ts";
import { bruteForce, bruteForceDots } from "./oracle.ts";

const [n, R, m] = [1500, 24, 30];
const generator = random(5, "approximate");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
const rows = normal(n * R);
const queries = normal(m * R);
let index: BuiltIndex;
let manifest: Manifest;
let backend: Backend;

beforeAll(async () => {
  index = await buildIndex(rows, R);
  await writeFile(path.join(index.folder, FILES.queries), queries);
  manifest = { ...(await manifestOf(index.folder, n, R)), queries: m };
  await buildApproximate(index.folder, manifest);
  backend = await openApproximate(index.folder, manifest);
});
afterAll(() => index.remove());

test("an answer says that it is approximate, and the recall measured on the stored queries", async () => {
  let found = 0;
  let recall = 0;
  for (let query = 0; query < m; query++) {
    const gradient = queries.subarray(query * R, (query + 1) * R);
    const answer = await backend.search(gradient, APPROXIMATE.topK);
    const truth = bruteForce(rows, gradient, APPROXIMATE.topK);
    const wanted = [...truth.helpful, ...truth.harmful].map(({ row }) => row);
    const got = new Set([...answer.helpful, ...answer.harmful].map(({ row }) => row));
    found += wanted.filter((row) => got.has(row)).length / wanted.length;
    recall = answer.recall;
    expect(answer.exact).toBe(false);
  }
  expect(recall).toBeCloseTo(found / m, 10);
  expect(recall).toBeGreaterThanOrEqual(APPROXIMATE.recall);
});

test("the influences it reports are exact, and in order", async () => {
  const gradient = normal(R);
  const dots = bruteForceDots(rows, gradient);
  const { helpful, harmful } = await backend.search(gradient, 20);
  for (const { row, influence } of [...helpful, ...harmful]) expect(influence).toBe(-dots[row]);
  const influences = helpful.map(({ influence }) => influence);
  expect(influences).toEqual(influences.toSorted((a, b) => a - b));
});

test("a filter holds", async () => {
  const even = rowBitmap(
    n,
    [...Array(n / 2).keys()].map((row) => 2 * row),
  );
  const { helpful } = await backend.search(normal(R), 10, even);
  expect(helpful).toHaveLength(10);
  expect(helpful.every(({ row }) => row % 2 === 0)).toBe(true);
});

test("a query of zeros has no neighbours", async () => {
  expect(await backend.search(new Float32Array(R), 3)).toMatchObject({ helpful: [], harmful: [] });
});

test("bad arguments are refused as the exact search refuses them", async () => {
  await expect(backend.search(new Float32Array(R + 1), 1)).rejects.toThrow(`gradient: expected ${R} values`);
  await expect(backend.search(new Float32Array(R), 0)).rejects.toThrow("topK: expected a positive integer, got 0");
});

test("the graph of another version is refused", async () => {
  await expect(openApproximate(index.folder, { ...manifest, version: "fedcba9876543210" })).rejects.toThrow(
    "build it again",
  );
});

test("an index without stored queries is refused, for recall could not be measured", async () => {
  await expect(buildApproximate(index.folder, { ...manifest, queries: 0 })).rejects.toThrow("expected stored queries");
});
