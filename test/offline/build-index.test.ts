import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { progressTo } from "../../offline/command/progress.ts";
import type { Dataset } from "../../offline/dataset/dataset.ts";
import type { ShardRows } from "../../offline/gradients/shard.ts";
import { cholesky, solveWithFactor } from "../../offline/hessian/cholesky.ts";
import { dampingOf, fitLayers, invertDamped, readFit } from "../../offline/hessian/fit.ts";
import { buildIndex } from "../../offline/index/build-index.ts";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { readMetadata } from "../../offline/serve/query.ts";
import { folderSource } from "../../offline/store/folder-source.ts";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { openSearcher } from "../../src/core/search.ts";

const n = 700;
const blocks = [
  { name: "first", offset: 0, r: 20 },
  { name: "second", offset: 20, r: 37 },
];
const dimension = 57;

/** Gradients whose coordinates differ in scale and correlate, as real ones do. */
function gradientRows(rows: number, purpose: string): Float32Array {
  const { normal } = random(3, purpose);
  const values = new Float32Array(rows * dimension);
  for (let row = 0; row < rows; row++) {
    const common = normal();
    for (let j = 0; j < dimension; j++) values[row * dimension + j] = (normal() + common) * 0.7 ** (j % 20);
  }
  return values;
}

function shardsOf(gradients: Float32Array, per: number): ShardRows[] {
  const rows = gradients.length / dimension;
  return Array.from({ length: Math.ceil(rows / per) }, (_, index) => {
    const first = index * per;
    const count = Math.min(per, rows - first);
    return {
      first,
      rows: count,
      dimension,
      gradients: gradients.slice(first * dimension, (first + count) * dimension),
      loss: new Float32Array(count).fill(0.5),
      prediction: new Int32Array(count).fill(1),
      valid: new Uint8Array(count).fill(1),
    };
  });
}

const dataset = (rows: number, prefix: string): Dataset => ({
  n: rows,
  gradients: null,
  checkIds: async () => {},
  ids: async (all) => all.map((row) => `${prefix}${row}`),
  feeds: async () => ({}),
  order: async (all) => [...all],
  columns: [{ name: "label", read: async (all) => all.map(() => 2) }],
  image: null,
});

/** − g̃_qᵀ (H̃ + λI)⁻¹ g̃_i in float64, through a solve for each row of each block. */
function bruteForce(train: Float32Array, query: Float32Array): Float64Array {
  const influence = new Float64Array(n);
  for (const { offset, r } of blocks) {
    const column = (row: number, j: number) => train[row * dimension + offset + j]!;
    const hessian = new Float64Array(r * r);
    for (let row = 0; row < n; row++) {
      for (let i = 0; i < r; i++)
        for (let j = 0; j < r; j++) hessian[i * r + j]! += (column(row, i) * column(row, j)) / n;
    }
    let trace = 0;
    for (let i = 0; i < r; i++) trace += hessian[i * r + i]!;
    for (let i = 0; i < r; i++) hessian[i * r + i]! += Math.max((0.1 * trace) / r, trace / n);
    const factor = cholesky(hessian, r);
    const solved = solveWithFactor(
      factor,
      r,
      Float64Array.from({ length: r }, (_, j) => query[offset + j]!),
    );
    for (let row = 0; row < n; row++) for (let j = 0; j < r; j++) influence[row]! -= column(row, j) * solved[j]!;
  }
  return influence;
}

describe("an index built from shards", () => {
  const train = gradientRows(n, "train");
  const queries = gradientRows(5, "queries");
  let folder: string;
  let manifest: Manifest;

  async function build(per: number): Promise<{ folder: string; manifest: Manifest }> {
    const where = mkdtempSync(join(tmpdir(), "index-"));
    const graph = join(where, "compiled.onnx");
    writeFileSync(graph, "the graph is copied as it is");
    const progress = progressTo("lines").step("test", n, "examples");
    await fitLayers(where, blocks, dimension, shardsOf(train, per), "default", progress);
    const mask = blocks.map(({ name, offset, r }) => ({
      layer: name,
      offset,
      d: 2 * r,
      r,
      kept: Uint32Array.from({ length: r }, (_, k) => 2 * k),
    }));
    const built = await buildIndex(
      where,
      {
        name: "synthetic",
        title: "Synthetic",
        compressor: { kind: "uniform", seed: 1 },
        dampingRule: "default",
        loss: "cross-entropy",
        fidelity: null,
        layers: blocks.map(({ name, r }) => ({ name, d: 2 * r, parameters: [] })),
      },
      { graph, mask, dimension, seed: 1 },
      readFit(where),
      { dataset: dataset(n, "train-"), shards: shardsOf(train, per) },
      { dataset: dataset(5, "test-"), shards: shardsOf(queries, per) },
      progress,
    );
    return { folder: where, manifest: built };
  }

  beforeAll(async () => {
    ({ folder, manifest } = await build(250));
  });

  test("answers with the ids of a float64 brute force, and its influences to 1e-5", async () => {
    const searcher = await openSearcher(manifest, folderSource(folder), await loadKernel(), 1e9);
    for (let q = 0; q < 5; q++) {
      const query = queries.slice(q * dimension, (q + 1) * dimension);
      const expected = bruteForce(train, query);
      const order = Array.from({ length: n }, (_, row) => row).sort((a, b) => expected[a]! - expected[b]!);
      const answer = await searcher.search(query, 10);
      expect(answer.exact).toBe(true);
      expect(answer.helpful.map(({ row }) => row)).toEqual(order.slice(0, 10));
      expect(answer.harmful.map(({ row }) => row)).toEqual(order.slice(-10).reverse());
      for (const { row, influence } of [...answer.helpful, ...answer.harmful]) {
        expect(Math.abs(influence / expected[row]! - 1)).toBeLessThan(1e-5);
      }
    }
  });

  test("names the columns that its metadata has", () => {
    for (const [file, names] of [
      [FILES.examples, manifest.columns?.examples],
      [FILES.queryMetadata, manifest.columns?.queries],
    ] as const) {
      expect(names).toEqual(Object.keys(readMetadata(folder, file).columns));
    }
    expect(manifest.columns?.examples).toContain("selfInfluence");
  });

  test("is the same bytes however the shards were cut", async () => {
    expect((await build(1000)).manifest).toEqual(manifest);
  });

  test("keeps ids, labels, predictions, losses and each example's influence on itself", () => {
    const { ids, columns } = readMetadata(folder, FILES.examples);
    expect(ids.length).toBe(n);
    expect({ label: columns.label?.[0], prediction: columns.prediction?.[0], loss: columns.loss?.[0] }).toEqual({
      label: 2,
      prediction: 1,
      loss: 0.5,
    });
    const own = bruteForce(train, train.slice(0, dimension))[0]!;
    expect(Math.abs(Number(columns.selfInfluence?.[0]) / own - 1)).toBeLessThan(1e-5);
  });
});

describe("damping", () => {
  test("the default covers n ≪ r by tr/n and n ≫ r by the paper's rule", () => {
    expect(dampingOf("default", 8, 100, 10)).toBe(0.8);
    expect(dampingOf("default", 8, 10, 1000)).toBe(0.08);
    expect(dampingOf("paper", 8, 100, 10)).toBeCloseTo(0.008, 15);
    expect(dampingOf("trace", 8, 10, 1000)).toBe(0.008);
    expect(dampingOf({ rule: "trace", factor: 3 }, 8, 10, 1000)).toBeCloseTo(0.024, 15);
    expect(dampingOf(0.25, 8, 100, 10)).toBe(0.25);
  });

  test("a factorisation that fails names layer, pivot and damping, and suggests a value", async () => {
    await expect(invertDamped("fc1", Float64Array.of(1, 2, 2, 1), 2, 0.5)).rejects.toThrow(
      /layer fc1: Cholesky failed at pivot 1 of 2 \(-1\.16.*\) with damping 0\.5; set damping to 5 or more/,
    );
  });
});
