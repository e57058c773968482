import { describe, expect, test } from "vitest";
import { bm25 } from "../../offline/evaluate/estimate/bm25.ts";
import { chance } from "../../offline/evaluate/estimate/chance.ts";
import { dataInf } from "../../offline/evaluate/estimate/data-inf.ts";
import { compressedInfluence, direct, selfInfluence } from "../../offline/evaluate/estimate/direct.ts";
import { kernelOf, lambdaOf, traceOf } from "../../offline/evaluate/estimate/estimator.ts";
import { hessianFree } from "../../offline/evaluate/estimate/hessian-free.ts";
import { lissa, lissaToConvergence } from "../../offline/evaluate/estimate/lissa.ts";
import {
  damped,
  gaussNewton,
  gradientRows,
  inverse,
  type Matrix,
  matrixOf,
  relativeDifference,
  times,
  transposed,
} from "./synthetic.ts";

const [n, m, d] = [40, 3, 25];
const values = gradientRows(n + m, d, "estimators");
const train = matrixOf(values, n, d);
const queries = matrixOf(values.subarray(n * d), m, d);
const hessian = gaussNewton(train);
const trace = hessian.reduce((sum, row, i) => sum + row[i]!, 0);
const lambda = 0.02 * trace;
const minus = (a: Matrix): Matrix => a.map((row) => row.map((value) => -value));

describe("estimators, through inner products, against d × d matrices written out", () => {
  test("exact: −Q (H + λI)⁻¹ Gᵀ", async () => {
    const kernel = await kernelOf(values, n, m, d);
    expect(traceOf(kernel)).toBeCloseTo(trace, 5);
    const wanted = minus(times(times(queries, inverse(damped(hessian, lambda))), transposed(train)));
    expect(relativeDifference(await direct.influence(kernel, lambda), wanted)).toBeLessThan(1e-9);
  });

  test("compressed, through the r × r matrix: the same, and each example's influence on itself", async () => {
    const rule = { trace: 0.02 };
    const { influence, own } = await compressedInfluence(values, n, m, d, rule);
    const { influence: alone } = await compressedInfluence(values, n, m, d, rule, false);
    expect(relativeDifference(alone, matrixOf(influence, m, n))).toBeLessThan(1e-9);
    const solved = inverse(damped(hessian, lambda));
    expect(relativeDifference(influence, minus(times(times(queries, solved), transposed(train))))).toBeLessThan(1e-6);
    const wanted = times(times(train, solved), transposed(train)).map((row, i) => row[i]!);
    expect(relativeDifference(own, [wanted])).toBeLessThan(1e-6);
    const kernel = await kernelOf(values, n, m, d);
    expect(relativeDifference(selfInfluence(kernel, lambda), [wanted])).toBeLessThan(1e-9);
  });

  test("LiSSA: ten steps of v ← g + v − α(H + λI)v, with α = 1/(‖H‖ + λ)", async () => {
    const kernel = await kernelOf(values, n, m, d);
    // ‖K/n‖ and ‖H‖ are the same: they share their non-zero eigenvalues.
    const alpha = 1 / (Math.sqrt(hessian.flat().reduce((sum, value) => sum + value * value, 0)) + lambda);
    let v = queries;
    for (let step = 1; step < 10; step++) {
      const moved = times(v, damped(hessian, lambda));
      v = v.map((row, q) => row.map((value, k) => queries[q]![k]! + value - alpha * moved[q]![k]!));
    }
    const wanted = times(v, transposed(train)).map((row) => row.map((value) => -alpha * value));
    expect(relativeDifference(await lissa(10).influence(kernel, lambda), wanted)).toBeLessThan(1e-9);
  });

  test("LiSSA to convergence is the exact inverse", async () => {
    const kernel = await kernelOf(values, n, m, d);
    const wanted = minus(times(times(queries, inverse(damped(hessian, lambda))), transposed(train)));
    expect(relativeDifference(await lissaToConvergence.influence(kernel, lambda), wanted)).toBeLessThan(1e-7);
  });

  test("DataInf: the mean over examples of (g gᵀ + λI)⁻¹, each inverted for itself", async () => {
    const kernel = await kernelOf(values, n, m, d);
    const mean = train
      .map((g) => inverse(damped(times(transposed([g]), [g]), lambda)))
      .reduce((a, b) => a.map((row, i) => row.map((value, j) => value + b[i]![j]!)))
      .map((row) => row.map((value) => value / n));
    const wanted = minus(times(times(queries, mean), transposed(train)));
    expect(relativeDifference(await dataInf.influence(kernel, lambda), wanted)).toBeLessThan(1e-7);
  });

  test("Hessian-free: −Q Gᵀ; random: the same for the same seed", async () => {
    const kernel = await kernelOf(values, n, m, d);
    expect(
      relativeDifference(await hessianFree.influence(kernel, lambda), minus(times(queries, transposed(train)))),
    ).toBeLessThan(1e-9);
    expect(chance(1).influence(kernel, 1)).toEqual(chance(1).influence(kernel, 1));
    expect(chance(1).influence(kernel, 1)).not.toEqual(chance(2).influence(kernel, 1));
  });

  test("damping rules: the paper's 0.1·tr/d, the default, and a share of the trace", () => {
    expect(lambdaOf("paper", 8, 100, 10)).toBeCloseTo(0.008, 15);
    expect(lambdaOf("default", 8, 100, 10)).toBe(0.8);
    expect(lambdaOf({ trace: 0.25 }, 8, 100, 10)).toBe(2);
  });
});

test("BM25 of two documents, worked by hand", () => {
  // "b" is in one of two documents: ln(1 + 1.5/1.5) = ln 2. Its count is 2, the length 3, the mean length 2:
  // 2·2.2/(2 + 1.2·(0.25 + 0.75·1.5)) = 4.4/3.65.
  const [first, second] = bm25([["a"], ["a", "b", "b"]], [["b", "missing"]]);
  expect(first).toBeCloseTo(0, 15);
  expect(second).toBeCloseTo((-Math.LN2 * 4.4) / 3.65, 12);
});
