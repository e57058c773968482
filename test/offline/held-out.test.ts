import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { progressTo } from "../../offline/command/progress.ts";
import { emptyShard, type ShardRows } from "../../offline/gradients/shard.ts";
import { cholesky, numericalRank, solveWithFactor } from "../../offline/hessian/cholesky.ts";
import { fitLayers, readChosen, settledDamping } from "../../offline/hessian/fit.ts";
import { FACTORS } from "../../offline/hessian/held-out.ts";
import { random } from "../../src/core/random.ts";

const blocks = [
  { name: "first", offset: 0, r: 30 },
  { name: "second", offset: 30, r: 10 },
];
const dimension = 40;
const silent = { ...progressTo("lines").step("test", 1, "examples"), done: () => {} };

/** One shard of rows whose coordinates differ in scale by far, with tails heavier than normal. */
function rowsOf(n: number, purpose: string): ShardRows {
  const { normal } = random(5, purpose);
  const shard = emptyShard(0, n, dimension);
  shard.gradients.forEach((_, at) => {
    shard.gradients[at] = normal() ** 3 * 0.8 ** (at % 10);
  });
  return shard;
}

/** Mean over the queries of ½ xᵀH'x − gᵀx, x by a solve, summed over the blocks; in loops. */
function objective(train: ShardRows, queries: ShardRows, asked: number[], held: number[], factor: number): number {
  const all = Array.from({ length: train.rows }, (_, row) => row);
  let total = 0;
  for (const { offset, r } of blocks) {
    const value = (shard: ShardRows, row: number, j: number) => shard.gradients[row * dimension + offset + j]!;
    const moment = (rows: number[]) =>
      Float64Array.from({ length: r * r }, (_, at) => {
        const [i, j] = [Math.floor(at / r), at % r];
        return rows.reduce((sum, row) => sum + value(train, row, i) * value(train, row, j), 0) / rows.length;
      });
    const hessian = moment(all);
    const trace = Array.from({ length: r }, (_, i) => hessian[i * r + i]!).reduce((sum, entry) => sum + entry, 0);
    const damped = moment(all.filter((row) => row % 5 < 4));
    for (let i = 0; i < r; i++) damped[i * r + i]! += (factor * trace) / train.rows;
    const factored = cholesky(damped, r);
    const curvature = moment(held);
    for (const row of asked) {
      const g = Float64Array.from({ length: r }, (_, j) => value(queries, row, j));
      const x = solveWithFactor(factored, r, g);
      let quadratic = 0;
      let linear = 0;
      for (let i = 0; i < r; i++) {
        linear += g[i]! * x[i]!;
        for (let j = 0; j < r; j++) quadratic += x[i]! * curvature[i * r + j]! * x[j]!;
      }
      total += (quadratic / 2 - linear) / asked.length;
    }
  }
  return total;
}

describe("held-out damping", () => {
  const train = rowsOf(100, "train");
  const queries = rowsOf(20, "queries");
  const among = (n: number, has: (row: number) => boolean) => Array.from({ length: n }, (_, row) => row).filter(has);

  test.each([true, false])("tries every factor by the objective of its definition; with queries: %s", async (given) => {
    const folder = mkdtempSync(join(tmpdir(), "held-out-"));
    const layers = await fitLayers(folder, blocks, dimension, [train], "held-out", silent, given ? [queries] : null);
    const chosen = readChosen(folder);
    const held = among(100, (row) => row % 5 === 4 && (given || row % 10 < 5));
    const asked = given ? among(20, () => true) : among(100, (row) => row % 5 === 4 && row % 10 >= 5);
    const expected = FACTORS.map((factor) => objective(train, given ? queries : train, asked, held, factor));
    expect(chosen?.tried.map(({ factor }) => factor)).toEqual(FACTORS);
    chosen?.tried.forEach(({ objective: got }, at) => {
      expect(Math.abs(got! / expected[at]! - 1)).toBeLessThan(1e-9);
    });
    expect(chosen?.factor).toBe(FACTORS[expected.indexOf(Math.min(...expected))]);
    for (const { trace, damping } of layers) expect(damping).toBeCloseTo((chosen!.factor * trace) / 100, 12);
    expect(settledDamping("held-out", folder)).toEqual({ rule: "trace", factor: chosen?.factor });
  });

  test("what is fitted does not otherwise depend on it: the Hessian is of all examples", async () => {
    const folders = ["held-out", "other"].map(() => mkdtempSync(join(tmpdir(), "held-out-")));
    const [one, other] = folders as [string, string];
    const chosen = await fitLayers(one, blocks, dimension, [train], "held-out", silent, [queries]);
    const told = await fitLayers(other, blocks, dimension, [train], settledDamping("held-out", one), silent);
    chosen.forEach(({ trace, effectiveRank }, layer) => {
      expect(Math.abs(trace / told[layer]!.trace - 1)).toBeLessThan(1e-12);
      expect(Math.abs(effectiveRank / told[layer]!.effectiveRank - 1)).toBeLessThan(1e-9);
    });
  });
});

test("the numerical rank is that of the rows a matrix is made of, whatever their scales", () => {
  const { normal } = random(1, "rank");
  for (const [rows, r] of [
    [1, 9],
    [7, 20],
    [19, 20],
    [50, 20],
  ] as const) {
    const g = Float64Array.from({ length: rows * r }, (_, at) => normal() * 10 ** -(at % 3));
    const gram = Float64Array.from({ length: r * r }, (_, at) => {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += g[row * r + Math.floor(at / r)]! * g[row * r + (at % r)]!;
      return sum;
    });
    expect(numericalRank(gram, r)).toBe(Math.min(rows, r));
  }
  expect(numericalRank(new Float64Array(9), 3)).toBe(0);
});
