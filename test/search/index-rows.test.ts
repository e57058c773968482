import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { indexRows } from "../../offline/index/index-rows.ts";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { FILES } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { openTier } from "../../src/core/search.ts";
import { type BuiltIndex, buildIndex } from "./built-index.ts";
import { bruteForce } from "./oracle.ts";

const generator = random(6, "index-rows");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
const built: BuiltIndex[] = [];
const build = async (...parameters: Parameters<typeof buildIndex>) => {
  const index = await buildIndex(...parameters);
  built.push(index);
  return index;
};
afterEach(async () => {
  for (const index of built.splice(0)) await index.remove();
});

test("the same rows make the same bytes", async () => {
  const rows = normal(100 * 17);
  const [one, other] = [await build(rows, 17), await build(rows, 17)];
  expect(Object.keys(one.manifest.files)).toEqual(
    [FILES.basis, FILES.coarse, FILES.fine, FILES.long, FILES.rowChecksums, FILES.rows].sort(),
  );
  expect(one.manifest.files).toEqual(other.manifest.files);
});

test("rows that take several reads and writes are all found", async () => {
  const [n, R] = [601, 8000];
  const rows = normal(n * R);
  const index = await build(rows, R);
  for (const tier of ["rows", "fine", "coarse"] as const) {
    const searcher = await openTier(index.manifest, index.source, loadKernel(), tier);
    const gradient = normal(R);
    expect(await searcher.search(gradient, n)).toMatchObject(bruteForce(rows, gradient, n));
  }
});

test("long.f32 holds the longest rows, whole", async () => {
  const [n, R] = [21, 5];
  const rows = normal(n * R).map((value, at) => value * (1 + ((Math.floor(at / R) * 13) % n)));
  const index = await build(rows, R);
  const bytes = await readFile(path.join(index.folder, FILES.long));
  const long = new Float32Array(Uint8Array.from(bytes).buffer);
  const length = (row: Float32Array) => Math.hypot(...row);
  const all = Array.from({ length: n }, (_, row) => rows.slice(row * R, (row + 1) * R));
  const found = Array.from({ length: 6 }, (_, row) => long.slice(row * R, (row + 1) * R));
  expect(long).toHaveLength(6 * R);
  for (const row of found) expect(all).toContainEqual(row);
  expect(new Set(found.map(String)).size).toBe(6);
  // Balancing changes lengths a little; the longest row by far is the longest in any balance.
  expect(Math.max(...found.map(length))).toBe(Math.max(...all.map(length)));
});

test("progress runs to its end", async () => {
  const index = await build(normal(30), 3);
  const seen: number[] = [];
  await indexRows(index.folder, {
    n: 10,
    R: 3,
    queryMeanSquare: new Float64Array(3).fill(1),
    seed: 1,
    onProgress: (done, total) => seen.push(done / total),
  });
  expect(seen.at(-1)).toBe(1);
  expect(seen).toEqual(seen.toSorted((a, b) => a - b));
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])("a value of %d is refused, its row named", async (value) => {
  const rows = normal(40);
  const index = await build(rows, 4);
  await writeFile(path.join(index.folder, FILES.rows), rows.with(4 * 6 + 2, value));
  const settings = { n: 10, R: 4, queryMeanSquare: new Float64Array(4).fill(1), seed: 1 };
  await expect(indexRows(index.folder, settings)).rejects.toThrow(
    `row 6, coordinate 2: expected a finite value, got ${value}`,
  );
});

test("shapes that disagree are refused", async () => {
  const index = await build(normal(40), 4);
  const mean = new Float64Array(4).fill(1);
  await expect(indexRows(index.folder, { n: 11, R: 4, queryMeanSquare: mean, seed: 1 })).rejects.toThrow(
    "expected 176 bytes for 11 × 4 float32, got 160",
  );
  await expect(indexRows(index.folder, { n: 10, R: 5, queryMeanSquare: mean, seed: 1 })).rejects.toThrow(
    "queryMeanSquare: expected 5 values, got 4",
  );
});
