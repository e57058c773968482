import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { prepareQuery } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { addressesOf, loadResident } from "../../src/core/resident.ts";
import { MOST_READS } from "../../src/core/row-reader.ts";
import { type Scanned, scan } from "../../src/core/scan.ts";
import { openSearcher, openTier, rowBitmap, type Searcher } from "../../src/core/search.ts";
import type { IndexSource } from "../../src/core/source.ts";
import { type BuiltIndex, buildIndex } from "./built-index.ts";
import { bruteForce, bruteForceDots } from "./oracle.ts";

const n = 5000;
const R = 200;
const generator = random(1, "search.test");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
const rows = normal(n * R);

describe.each([
  ["the rows resident", 1e9, "rows"],
  ["the fine plane resident", 5e6, "fine"],
  ["only the coarse plane resident", 3.8e6, "coarse"],
] as const)("a search with %s", (_, budget, tier) => {
  let index: BuiltIndex;
  let searcher: Searcher;
  beforeAll(async () => {
    index = await buildIndex(rows, R);
    searcher = await openSearcher(index.manifest, index.source, loadKernel(), budget);
  });
  afterAll(() => index.remove());

  test("holds what fits the budget", () => {
    expect(searcher.held).toBe(tier);
    expect(searcher.residentBytes).toBeLessThanOrEqual(budget);
  });

  test.each([1, 10, 9000])("finds the %i most helpful and most harmful rows exactly", async (k) => {
    for (let query = 0; query < 10; query++) {
      const gradient = normal(R);
      const answer = await searcher.search(gradient, k);
      const { helpful, harmful } = bruteForce(rows, gradient, k);
      expect(answer.exact).toBe(true);
      expect(answer.helpful).toEqual(helpful);
      expect(answer.harmful).toEqual(harmful);
    }
  });

  test("re-scores few rows", async () => {
    const answer = await searcher.search(normal(R), 10);
    expect(answer.survivors).toBeLessThan(n / 10);
    expect(answer.rescored).toBeLessThanOrEqual(answer.survivors);
  });
});

describe.each(["rows", "fine", "coarse"] as const)("a searcher that holds %s", (tier) => {
  let index: BuiltIndex;
  let searcher: Searcher;
  beforeAll(async () => {
    index = await buildIndex(rows, R);
    searcher = await openTier(index.manifest, index.source, loadKernel(), tier);
  });
  afterAll(() => index.remove());

  test("answers a batch as it answers each query", async () => {
    const gradients = [...Array.from({ length: 20 }, () => normal(R)), new Float32Array(R), normal(R)];
    const answers = await searcher.searchBatch(gradients, 7);
    for (const [at, gradient] of gradients.entries()) expect(answers[at]).toMatchObject(bruteForce(rows, gradient, 7));
  });

  test("answers searches that overlap in time each with its own", async () => {
    const gradients = Array.from({ length: 8 }, () => normal(R));
    const answers = await Promise.all(gradients.map((gradient) => searcher.search(gradient, 5)));
    for (const [at, gradient] of gradients.entries()) expect(answers[at]).toMatchObject(bruteForce(rows, gradient, 5));
  });

  test.each([
    ["every seventh row", (row: number) => row % 7 === 0],
    ["a few rows", (row: number) => [3, 4, 77, 4999].includes(row)],
    ["no row", () => false],
  ])("searches %s only", async (_, chosen) => {
    const filter = rowBitmap(n, [...rows.keys()].slice(0, n).filter(chosen));
    const gradient = normal(R);
    expect(await searcher.search(gradient, 10, filter)).toMatchObject(bruteForce(rows, gradient, 10, chosen));
  });

  test("sums influence by group, within the error it states", async () => {
    const gradient = normal(R);
    const groups = Array.from({ length: n }, (_, row) => (row % 10) - 1);
    const chosen = (row: number) => row % 3 > 0;
    const filter = rowBitmap(n, [...groups.keys()].filter(chosen));
    const sums = await searcher.sumGroups(gradient, groups, 9, filter);
    const dots = bruteForceDots(rows, gradient);
    for (let group = 0; group < 9; group++) {
      const members = [...groups.keys()].filter((row) => groups[row] === group && chosen(row));
      const sum = members.reduce((total, row) => total - dots[row], 0);
      expect(sums.count[group]).toBe(members.length);
      expect(Math.abs(sums.sum[group] - sum)).toBeLessThanOrEqual(sums.error[group] + 1e-9);
    }
    expect(sums.error[0] > 0).toBe(tier !== "rows");
  });
});

test("a scan stops where no further row is long enough", async () => {
  const falling = rows.map((value, at) => value * 0.999 ** Math.floor(at / R));
  const index = await buildIndex(falling, R);
  const searcher = await openTier(index.manifest, index.source, loadKernel(), "rows");
  const gradient = normal(R);
  const answer = await searcher.search(gradient, 10);
  expect(answer.scanned).toBeLessThan(n);
  expect(answer).toMatchObject(bruteForce(falling, gradient, 10));
  await index.remove();
});

test("where few rows are long, those are held rather than the fine plane, and answers need no other", async () => {
  const uneven = rows.map((value, at) => (Math.floor(at / R) % 20 === 0 ? value : value / 100));
  const index = await buildIndex(uneven, R);
  const searcher = await openTier(index.manifest, index.source, loadKernel(), "fine");
  expect(searcher.held).toBe("long");
  for (const k of [1, 10, 2000]) {
    const gradient = normal(R);
    const answer = await searcher.search(gradient, k);
    expect(answer).toMatchObject(bruteForce(uneven, gradient, k));
    expect(answer.fetched === 0).toBe(k <= 10);
  }
  const gradient = normal(R);
  const groups = Array.from({ length: n }, (_, row) => row % 3);
  const sums = await searcher.sumGroups(gradient, groups, 3);
  const dots = bruteForceDots(uneven, gradient);
  for (let group = 0; group < 3; group++) {
    const sum = dots.reduce((total, dot, row) => (row % 3 === group ? total - dot : total), 0);
    expect(Math.abs(sums.sum[group] - sum)).toBeLessThanOrEqual(sums.error[group]);
  }
  await index.remove();
});

test("beside the coarse plane alone, as many of the longest rows are held as the budget has room for", async () => {
  const index = await buildIndex(rows, R);
  const least = addressesOf(n, R, "coarse").end;
  const gradient = normal(R);
  const fetched: number[] = [];
  for (const room of [0, 100_000, 500_000]) {
    const searcher = await openSearcher(index.manifest, index.source, loadKernel(), least + room);
    const answer = await searcher.search(gradient, 10);
    expect(searcher.held).toBe("coarse");
    expect(searcher.residentBytes).toBeLessThanOrEqual(least + room);
    expect(answer).toMatchObject(bruteForce(rows, gradient, 10));
    fetched.push(answer.fetched);
  }
  expect(fetched[2]).toBeLessThan(fetched[0]);
  await index.remove();
});

test.each([
  ["a large k", 1, 1000],
  ["a batch", 30, 300],
] as const)("%s makes few reads of the source, each row at most once", async (_, count, k) => {
  const wide = 2048;
  const few = 300;
  const index = await buildIndex(normal(few * wide), wide);
  const asked: string[] = [];
  const source: IndexSource = {
    range: () => Promise.reject(new Error("not asked for")),
    stream(file, part) {
      if (part !== undefined) asked.push(file);
      return index.source.stream(file, part);
    },
  };
  for (const tier of ["fine", "coarse"] as const) {
    const searcher = await openTier(index.manifest, source, loadKernel(), tier);
    asked.length = 0;
    const gradients = Array.from({ length: count }, () => normal(wide));
    const answers = await searcher.searchBatch(gradients, k);
    expect(answers.every(({ exact }) => exact)).toBe(true);
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.length).toBeLessThanOrEqual(2 * MOST_READS);
  }
  await index.remove();
});

test("a batch that leaves more candidates open than may be held is answered in parts, and alike", async () => {
  const index = await buildIndex(rows, R);
  const resident = await loadResident(index.manifest, index.source, loadKernel(), "coarse");
  const queries = Array.from({ length: 9 }, (_, slot) => prepareQuery(resident, normal(R), slot)!);
  const whole = scan(resident, queries, 50, null);
  expect(whole).toHaveLength(9);
  const part = scan(resident, queries, 50, null, 1000);
  expect(part.length).toBeLessThan(9);
  expect(part.length).toBeGreaterThan(0);
  const sorted = (found: Scanned) => found.candidates.places.toSorted((a, b) => a - b);
  for (const [at, found] of part.entries()) expect(sorted(found)).toEqual(sorted(whole[at]));
  expect(scan(resident, queries, 50, null, 1)).toHaveLength(1);
  await index.remove();
});

test("batches that are answered in parts do not disturb each other while they wait for rows", async () => {
  const index = await buildIndex(rows, R);
  const searcher = await openTier(index.manifest, index.source, loadKernel(), "coarse");
  const batches = Array.from({ length: 2 }, () => Array.from({ length: 9 }, () => normal(R)));
  const k = 2000;
  const together = await Promise.all(batches.map((gradients) => searcher.searchBatch(gradients, k)));
  for (const [at, gradients] of batches.entries()) {
    const found = together[at].map(({ helpful, harmful }) => ({ helpful, harmful }));
    expect(found).toEqual(gradients.map((gradient) => bruteForce(rows, gradient, k)));
  }
  await index.remove();
});

test("rows are read from the source once while they are kept", async () => {
  const index = await buildIndex(rows, R);
  const searcher = await openTier(index.manifest, index.source, loadKernel(), "fine");
  const gradient = normal(R);
  const first = await searcher.search(gradient, 10);
  const second = await searcher.search(gradient, 10);
  expect(first.fetched).toBe(first.rescored);
  expect(second.fetched).toBe(0);
  await index.remove();
});

describe("a search refuses", () => {
  let index: BuiltIndex;
  let searcher: Searcher;
  beforeAll(async () => {
    index = await buildIndex(normal(40), 8);
    searcher = await openSearcher(index.manifest, index.source, loadKernel(), 1e9);
  });
  afterAll(() => index.remove());

  test("a gradient of another length", () =>
    expect(searcher.search(new Float32Array(9), 1)).rejects.toThrow("gradient: expected 8 values, got 9"));
  test("a gradient with a NaN", () =>
    expect(searcher.search(new Float32Array(8).fill(Number.NaN, 3), 1)).rejects.toThrow("got NaN at position 3"));
  test("a filter of another length", () =>
    expect(searcher.search(new Float32Array(8), 1, new Uint8Array(2))).rejects.toThrow(
      "filter: expected a bitmap of 1 byte",
    ));
  test("a row that is none", () => expect(() => rowBitmap(5, [5])).toThrow("filter: expected rows of 0 … 4, got 5"));
  test("more than 256 queries at once", () =>
    expect(searcher.searchBatch(Array(257).fill(new Float32Array(8)), 1)).rejects.toThrow("at most 256, got 257"));
  test("groups of another length", () =>
    expect(searcher.sumGroups(new Float32Array(8), [1], 2)).rejects.toThrow(
      "groups: expected one of each of 5 rows, got 1",
    ));
  test.each([0, -1, 1.5, Number.NaN])("topK of %d", (topK) =>
    expect(searcher.search(new Float32Array(8), topK)).rejects.toThrow("topK: expected a positive integer"),
  );
});
