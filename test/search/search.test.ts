import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadKernel } from "../../offline/kernel.ts";
import { random } from "../../src/core/random.ts";
import { openSearcher, type Searcher } from "../../src/core/search.ts";
import { type BuiltIndex, buildIndex } from "./built-index.ts";
import { bruteForce } from "./oracle.ts";

const n = 5000;
const R = 200;
const generator = random(1, "search.test");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
const rows = normal(n * R);

describe.each([
  ["the rows resident", 1e9, "rows"],
  ["the fine plane resident", 5e6, "fine"],
  ["only the coarse plane resident", 3.6e6, "coarse"],
] as const)("a search with %s", (_, budget, tier) => {
  let index: BuiltIndex;
  let searcher: Searcher;
  beforeAll(async () => {
    index = await buildIndex(rows, R);
    searcher = await openSearcher(index.manifest, index.source, loadKernel(), budget);
  });
  afterAll(() => index.remove());

  test("holds what fits the budget", () => {
    expect(searcher.tier).toBe(tier);
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
  test.each([0, -1, 1.5, Number.NaN])("topK of %d", (topK) =>
    expect(searcher.search(new Float32Array(8), topK)).rejects.toThrow("topK: expected a positive integer"),
  );
});
