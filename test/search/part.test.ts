/** Parts of a run's index, mixed as its own build mixes: against brute force over their rows. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { emptyShard, writeShard } from "../../offline/gradients/shard.ts";
import { indexPart, partGradients, spreadOver } from "../../offline/index/part.ts";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { folderSource } from "../../offline/store/folder-source.ts";
import { FILES } from "../../src/core/manifest.ts";
import { openTier } from "../../src/core/search.ts";
import { type CorrelatedRun, correlatedRun } from "./correlated-run.ts";
import { bruteForce } from "./oracle.ts";

let run: CorrelatedRun;
beforeAll(async () => {
  run = await correlatedRun();
});
afterAll(() => run.remove());

/** Rows [count, R] at some of their coordinates. */
const at = (spread: readonly number[], values: Float32Array, rows: number) =>
  Float32Array.from({ length: rows * spread.length }, (_, i) => {
    const row = Math.floor(i / spread.length);
    return values[row * run.R + spread[i % spread.length]!]!;
  });

test("coordinates are spread over all", () => {
  expect(spreadOver(8, 3)).toEqual([0, 2, 5]);
  expect(spreadOver(4, 4)).toEqual([0, 1, 2, 3]);
});

test("gradients are paired with the rows made of them, and those left out have none", () => {
  const spread = spreadOver(run.R, 20);
  const { typical, meanSquare } = partGradients(run.folder, run.manifest, 1500, spread)!;
  expect(typical.gradients).toEqual(at(spread, run.gradients, 1500));
  expect(typical.rows).toEqual(at(spread, run.rows, 1500));
  const picked = at(spread, run.gradients, 1500);
  for (const [j, mean] of meanSquare.entries()) {
    const squares = Array.from({ length: 1500 }, (_, row) => picked[row * 20 + j]! ** 2);
    expect(mean).toBeCloseTo(squares.reduce((sum, square) => sum + square, 0) / 1500, 6);
  }
});

test.each([
  [2000, 128],
  [1500, 96],
])("the first %d rows at %d coordinates answer as brute force, from fewer codes than unmixed", async (n, R) => {
  const spread = spreadOver(run.R, R);
  const rows = at(spread, run.rows, n);
  const gradients = partGradients(run.folder, run.manifest, n, spread)!;
  const codes: number[] = [];
  for (const typical of [gradients.typical, null]) {
    const folder = await mkdtemp(path.join(tmpdir(), "part-"));
    await writeFile(path.join(folder, FILES.rows), rows);
    const part = await indexPart(folder, run.manifest, n, spread, { ...gradients, typical });
    expect(FILES.mixing in part.files).toBe(typical !== null);
    const searcher = await openTier(part, folderSource(folder), loadKernel(), "rows");
    let read = 0;
    for (const query of run.queries) {
      const gradient = Float32Array.from(spread, (j) => query[j]!);
      const answer = await searcher.search(gradient, 10);
      expect(answer).toMatchObject(bruteForce(rows, gradient, 10));
      read += answer.codeBytes;
    }
    codes.push(read);
    await rm(folder, { recursive: true });
  }
  expect(codes[0]).toBeLessThan(0.8 * codes[1]!);
});

test("gradients that the index was not made of count as none", async () => {
  const other = await correlatedRun();
  const spread = spreadOver(other.R, 64);
  const gradients = () => partGradients(other.folder, other.manifest, other.n, spread);
  expect(gradients()).not.toBeNull();
  const second = path.join(other.folder, "..", "collect", "train-00001.shard");
  writeShard(second, emptyShard(0, 1, other.R), "0a".repeat(32));
  expect(gradients()).toBeNull();
  await rm(second);
  expect(gradients()).toBeNull();
  await rm(path.join(other.folder, "..", "fit"), { recursive: true });
  expect(gradients()).toBeNull();
  other.remove();
});
