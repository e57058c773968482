import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { configSchema } from "../../offline/command/config.ts";
import { compileGradient } from "../../offline/compile/compile.ts";
import { compressedInfluence } from "../../offline/evaluate/estimate/direct.ts";
import { exactByLayer } from "../../offline/evaluate/exact.ts";
import { collectBlocks } from "../../offline/evaluate/gradients.ts";
import { conditionOf } from "../../offline/evaluate/score.ts";
import { asFile } from "../../offline/evaluate/tasks/files.ts";
import { dense as denseLayer, draft, finished } from "../../offline/evaluate/tasks/model.ts";
import { cholesky, solveWithFactor } from "../../offline/hessian/cholesky.ts";
import { ELEMENT } from "../../offline/onnx/graph.ts";
import { fidelitySchema } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { configFile, influence, smallConfig } from "./demonstration.ts";

describe("exact influence through the n × n kernel", () => {
  const [n, m] = [15, 4];
  // 5 → 3 → 2: one layer of 18 entries, more than there are examples, and one of 8, fewer.
  const model = draft([{ name: "x", type: ELEMENT.float32, shape: ["batch", 5] }], 3);
  const hidden = model.b.op("Tanh", [denseLayer(model, model.b.value("x"), "a", 5, 3)]);
  const bytes = finished(model, denseLayer(model, hidden, "b", 3, 2));
  const full = asFile(bytes, (path) =>
    compileGradient(path, { loss: "cross-entropy", r: { total: 26 }, compressor: "uniform", seed: 0 }),
  );
  const { normal, below } = random(5, "examples");
  const inputs = Float32Array.from({ length: (n + m) * 5 }, normal);
  const labels = Array.from({ length: n + m }, () => below(2));
  const examples = (from: number, count: number) => ({
    n: count,
    feeds: (rows: readonly number[]) => ({
      x: new Tensor(
        "float32",
        Float32Array.from(rows.flatMap((row) => [...inputs.subarray((from + row) * 5, (from + row + 1) * 5)])),
        [rows.length, 5],
      ),
      target: new Tensor(
        "int64",
        BigInt64Array.from(rows, (row) => BigInt(labels[from + row]!)),
        [rows.length],
      ),
    }),
  });
  const sets = [examples(0, n), examples(n, m)];

  /** H + λI of the training rows, written out, with λ = max(tr(H)/n, 0.1·tr(H)/d): [d, d]. */
  function damped(gradients: Float32Array, d: number): Float64Array {
    const hessian = new Float64Array(d * d);
    for (let row = 0; row < n; row++) {
      for (let i = 0; i < d; i++)
        for (let j = 0; j < d; j++) hessian[i * d + j]! += (gradients[row * d + i]! * gradients[row * d + j]!) / n;
    }
    let trace = 0;
    for (let i = 0; i < d; i++) trace += hessian[i * d + i]!;
    for (let i = 0; i < d; i++) hessian[i * d + i]! += Math.max(trace / n, (0.1 * trace) / d);
    return hessian;
  }

  /** −g_qᵀ(H + λI)⁻¹g_i, one solution of d equations a query. */
  function dense(gradients: Float32Array, d: number): Float64Array {
    const factor = cholesky(damped(gradients, d), d);
    return Float64Array.from({ length: m * n }, (_, at) => {
      const query = n + Math.floor(at / n);
      const solved = solveWithFactor(factor, d, Float64Array.from(gradients.subarray(query * d, (query + 1) * d)));
      const own = gradients.subarray((at % n) * d, ((at % n) + 1) * d);
      return -own.reduce((sum, value, i) => sum + value * solved[i]!, 0);
    });
  }

  const apart = (a: Float64Array, b: Float64Array) => {
    const most = Math.max(...b.map(Math.abs));
    return Math.max(...a.map((value, i) => Math.abs(value - b[i]!))) / most;
  };

  test("is the dense one, for a layer of more entries than examples and for one of fewer", async () => {
    const { graph, mask } = await full;
    const { blocks } = await collectBlocks(graph, mask, sets);
    const got = await exactByLayer({ graph, mask }, { n, m, sets }, { damping: "default", hessian: "layers" });
    expect(mask.map(({ d }) => d)).toEqual([18, 8]);
    for (const [index, { d }] of mask.entries())
      expect(apart(got[index]!, dense(blocks[index]!, d))).toBeLessThan(1e-6);
  });

  test("under a joint Hessian is the dense one of all layers together", async () => {
    const { graph, mask } = await full;
    const whole = await collectBlocks(graph, [{ offset: 0, r: 26 }], sets);
    const got = await exactByLayer({ graph, mask }, { n, m, sets }, { damping: "default", hessian: "joint" });
    expect(got).toHaveLength(1);
    expect(apart(got[0]!, dense(whole.blocks[0]!, 26))).toBeLessThan(1e-6);
  });

  test("of kept coordinates is the dense one of those; the condition number is λ_max/λ_min", async () => {
    const { graph, mask } = await full;
    const { blocks } = await collectBlocks(graph, mask, sets);
    const { influence: got } = await compressedInfluence(blocks[1]!, n, m, 8, "default");
    expect(apart(got, dense(blocks[1]!, 8))).toBeLessThan(1e-6);

    // The largest eigenvalue of A and of A⁻¹ by power iteration on equations solved, not on an inverse.
    const a = damped(blocks[1]!, 8);
    const factor = cholesky(a, 8);
    const extreme = (step: (x: Float64Array) => Float64Array) => {
      let x = Float64Array.from({ length: 8 }, (_, i) => 1 + i / 7);
      let size = 0;
      for (let round = 0; round < 2000; round++) {
        const moved = step(x);
        size = Math.hypot(...moved);
        x = moved.map((value) => value / size);
      }
      return size;
    };
    const times = (x: Float64Array) =>
      Float64Array.from({ length: 8 }, (_, i) => x.reduce((sum, value, j) => sum + a[i * 8 + j]! * value, 0));
    const wanted = extreme(times) * extreme((x) => solveWithFactor(factor, 8, x));
    expect((await conditionOf("b", blocks[1]!, n, 8, "default")) / wanted).toBeCloseTo(1, 1);
  });

  test("a gradient that is not finite is refused", async () => {
    const broken = {
      ...sets[0]!,
      feeds: (rows: readonly number[]) => {
        const feeds = sets[0]!.feeds(rows);
        feeds.x.data[0] = Number.NaN;
        return feeds;
      },
    };
    const { graph, mask } = await full;
    await expect(
      exactByLayer({ graph, mask }, { n, m, sets: [broken, sets[1]!] }, { damping: "default", hessian: "layers" }),
    ).rejects.toThrow(/expected finite losses, got NaN for training example 0 of the sample/);
  });
});

test("verify says how far to trust a build, and the next build carries it in its manifest", () => {
  const { path, run } = configFile({ ...smallConfig(400), r: { total: 64 }, compressor: "uniform", calibrate: 64 });
  expect(influence("index", path, "--out", run).status).toBe(0);
  const verified = influence("verify", path, "--out", run, "--examples", "150", "--queries", "10", "--json");
  expect(verified.status, verified.stderr).toBe(0);
  const { text, ...measured } = JSON.parse(verified.stdout);
  const fidelity = fidelitySchema.parse(measured);
  expect(text).toContain(fidelity.verdict);
  expect(fidelity).toMatchObject({ examples: 150, queries: 10 });
  expect(fidelity.sizes.map(({ dimension }) => dimension)).toEqual([16, 64, 256]);
  const [little, own, much] = fidelity.sizes.map(({ spearman }) => spearman);
  expect(much).toBeGreaterThan(own!);
  expect(own).toBeGreaterThan(little!);
  expect(fidelity.agreement.spearman).toBe(own);
  // Every compressor that a configuration may name is tried, this one first.
  const kinds = fidelity.compressors.map(({ kind }) => kind);
  expect(kinds[0]).toBe("uniform");
  expect(new Set(kinds)).toEqual(new Set(configSchema.shape.compressor.unwrap().options));
  expect(kinds).toHaveLength(new Set(kinds).size);
  // Sixty-four uniform coordinates of 52,138 are far too few, and importance is known to do better.
  expect(fidelity.verdict).toMatch(/`compressor: \w+` does better on this model at the same R/);
  expect(fidelity.layers.map(({ name }) => name)).toEqual(["conv1", "conv2", "fc1", "fc2"]);
  expect(fidelity.layers.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 2);
  // Another seed keeps other coordinates: alike, but not the same.
  expect(fidelity.betweenSeeds.spearman).toBeGreaterThan(0);
  expect(fidelity.betweenSeeds.spearman).toBeLessThan(0.99);
  expect(readdirSync(run).filter((name) => name.startsWith("verify"))).toEqual([]);

  const manifest = () => JSON.parse(readFileSync(join(run, "index", "manifest.json"), "utf8"));
  expect(manifest().fidelity).toBeNull();
  expect(influence("index", path, "--out", run).status).toBe(0);
  expect(manifest().fidelity).toEqual(fidelity);
});

test("with every coordinate kept, verify finds nothing wrong", () => {
  const config = smallConfig(120);
  const { path, run } = configFile({ ...config, layers: ["fc2*"], r: { total: 650 }, calibrate: 64 });
  const verified = influence("verify", path, "--out", run, "--examples", "100", "--queries", "5", "--json");
  expect(verified.status, verified.stderr).toBe(0);
  const fidelity = fidelitySchema.parse(JSON.parse(verified.stdout));
  // Everything is kept whatever the seed: any two agree to rounding.
  for (const { spearman, top10Helpful } of [fidelity.agreement, fidelity.betweenSeeds]) {
    expect(spearman).toBeGreaterThan(0.999);
    expect(top10Helpful).toBe(1);
  }
  expect(fidelity.verdict).toMatch(/10\.0 are found on average: the top of the lists can be trusted/);
  expect(fidelity.verdict).toContain("Another seed gives the same lists.");
});
