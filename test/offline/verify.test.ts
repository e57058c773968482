import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { addCompressedInfluence, addExactInfluence } from "../../offline/evaluate/exact.ts";
import { cholesky, solveWithFactor } from "../../offline/hessian/cholesky.ts";
import { random } from "../../src/core/random.ts";
import { configFile, influence, smallConfig } from "./demonstration.ts";

describe("exact influence through the n × n kernel", () => {
  const [n, m, width] = [15, 4, 24];
  const { normal } = random(5, "gradients");
  const gradients = Float32Array.from({ length: (n + m) * width }, normal);

  /** − g_qᵀ (H + λI)⁻¹ g_i with the dense d × d Hessian of the given columns. */
  function dense(columns: number[]): Float64Array {
    const d = columns.length;
    const g = (row: number) => Float64Array.from(columns, (column) => gradients[row * width + column]!);
    const hessian = new Float64Array(d * d);
    for (let row = 0; row < n; row++) {
      const own = g(row);
      for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) hessian[i * d + j]! += (own[i]! * own[j]!) / n;
    }
    let trace = 0;
    for (let i = 0; i < d; i++) trace += hessian[i * d + i]!;
    for (let i = 0; i < d; i++) hessian[i * d + i]! += Math.max(trace / n, (0.1 * trace) / d);
    const factor = cholesky(hessian, d);
    return Float64Array.from({ length: m * n }, (_, at) => {
      const solved = solveWithFactor(factor, d, g(n + Math.floor(at / n)));
      return -g(at % n).reduce((sum, value, i) => sum + value * solved[i]!, 0);
    });
  }

  const worst = (a: Float64Array, b: Float64Array) =>
    a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

  test("is the dense one, for a layer of more entries than examples and for one of fewer", async () => {
    for (const [from, to] of [
      [0, 20],
      [20, 24],
    ] as const) {
      const influences = new Float64Array(m * n);
      await addExactInfluence(influences, gradients, n, m, width, [from, to], "default");
      expect(worst(influences, dense(Array.from({ length: to - from }, (_, i) => from + i)))).toBeLessThan(1e-10);
    }
  });

  test("of kept columns is the dense one of those columns", async () => {
    const kept = Uint32Array.of(1, 3, 4, 10, 17);
    const influences = new Float64Array(m * n);
    await addCompressedInfluence(influences, gradients, n, m, width, kept, "layer", "default");
    expect(worst(influences, dense([...kept]))).toBeLessThan(1e-10);
  });
});

test("verify says how far to trust a build, and the next build carries it in its manifest", () => {
  const { path, run } = configFile(smallConfig(400));
  expect(influence("index", path, "--out", run).status).toBe(0);
  const verified = influence("verify", path, "--out", run, "--examples", "150", "--queries", "10");
  expect(verified.status, verified.stderr).toBe(0);
  expect(verified.stdout).toMatch(/Spearman correlation over all examples +0\.\d{3}/);
  expect(verified.stdout).toMatch(/of the ten truly most influential examples \d\.\d are found/);
  const manifest = () => JSON.parse(readFileSync(join(run, "index", "manifest.json"), "utf8"));
  expect(manifest().fidelity).toBeNull();
  expect(influence("index", path, "--out", run).status).toBe(0);
  expect(manifest().fidelity).toMatchObject({ examples: 150, queries: 10, verdict: expect.any(String) });
});
