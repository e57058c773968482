import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import { beforeAll, describe, expect, test } from "vitest";
import { readConfig } from "../../offline/command/config.ts";
import { buildToIndex } from "../../offline/command/pipeline.ts";
import { progressTo } from "../../offline/command/progress.ts";
import { ALONE } from "../../offline/command/run.ts";
import { type CompiledGradient, type CompileOptions, compileGradient } from "../../offline/compile/compile.ts";
import { joinMembers } from "../../offline/compile/ensemble.ts";
import { readManifest } from "../../offline/store/publish.ts";
import { configFile, smallConfig } from "../offline/demonstration.ts";
import { digitFeeds, digitModel } from "./digits.ts";
import { feedsOf, runner } from "./run.ts";

const { onnx } = onnxProto;
const options: CompileOptions = { loss: "cross-entropy", r: { total: 40 }, compressor: "uniform", seed: 0 };

/** The digits' model with every weight scaled: another checkpoint. */
function otherCheckpoint(): string {
  const model = onnx.ModelProto.decode(readFileSync(digitModel));
  for (const tensor of model.graph?.initializer ?? []) {
    if (tensor.dataType !== 1 || !tensor.rawData) continue;
    const values = new Float32Array(Uint8Array.from(tensor.rawData).buffer).map((value) => value * 0.9);
    tensor.rawData = new Uint8Array(values.buffer);
  }
  const path = join(mkdtempSync(join(tmpdir(), "checkpoint-")), "model.onnx");
  writeFileSync(path, onnx.ModelProto.encode(model).finish());
  return path;
}

async function outputs(compiled: CompiledGradient) {
  return (await runner(compiled.graph))(feedsOf(compiled, digitFeeds));
}

function expectClose(got: Float32Array, expected: Float32Array): void {
  expect(Math.max(...got.map((value, row) => Math.abs(value - expected[row]!)))).toBeLessThan(1e-6);
}

/** Member after member, row by row. */
function sideBySide(parts: readonly Float32Array[], rows: number): Float32Array {
  const widths = parts.map((part) => part.length / rows);
  return Float32Array.from(
    Array.from({ length: rows }, (_, row) =>
      parts.flatMap((part, p) => Array.from(part.subarray(row * widths[p]!, (row + 1) * widths[p]!))),
    ).flat(),
  );
}

describe("members joined in one graph", () => {
  let masks: CompiledGradient[];
  beforeAll(async () => {
    masks = await Promise.all([1, 2, 3].map((seed) => compileGradient(digitModel, { ...options, seed })));
  });

  test("three masks: their gradients side by side, their loss, and the weights once", async () => {
    const joined = joinMembers(masks.map((compiled, index) => ({ name: `mask ${index + 1}`, compiled })));
    const single = await Promise.all(masks.map(outputs));
    const got = await outputs(joined);
    expect(joined.dimension).toBe(120);
    expect(got.gradient).toEqual(
      sideBySide(
        single.map(({ gradient }) => gradient),
        64,
      ),
    );
    expectClose(got.loss, single[0]!.loss);
    expect(joined.mask.map(({ offset }) => offset)).toEqual(
      masks.flatMap(({ mask }, m) => mask.map(({ offset }) => 40 * m + offset)),
    );
    expect(joined.layers.map(({ name }) => name).slice(3, 6)).toEqual([
      "mask 1: fc2",
      "mask 2: conv1",
      "mask 2: conv2",
    ]);
    expect(joined.graph.length).toBeLessThan(1.5 * masks[0]!.graph.length);
  });

  test("two checkpoints: their gradients side by side, the mean of their losses", async () => {
    const compiled = [masks[0]!, await compileGradient(otherCheckpoint(), { ...options, seed: 1 })];
    const joined = joinMembers(compiled.map((member, index) => ({ name: `model ${index + 1}`, compiled: member })));
    const [one, other] = await Promise.all(compiled.map(outputs));
    const got = await outputs(joined);
    expect(got.gradient).toEqual(sideBySide([one!.gradient, other!.gradient], 64));
    expectClose(
      got.loss,
      one!.loss.map((loss, row) => (loss + other!.loss[row]!) / 2),
    );
  });

  test("members that are the same, or of another R, are refused", async () => {
    const [one, other] = masks as [CompiledGradient, CompiledGradient];
    const join = (compiled: CompiledGradient) => () =>
      joinMembers([
        { name: "mask 1", compiled: one },
        { name: "mask 2", compiled },
      ]);
    expect(join(one)).toThrow(/ensemble: mask 2: expected other coordinates or weights than those of mask 1/);
    expect(join({ ...other, dimension: 41 })).toThrow(/mask 2: expected R = 40 as of mask 1, got 41/);
  });
});

test("the influences of an ensemble are the means of its members', for masks and for models", async () => {
  const progress = {
    ...progressTo("json"),
    step: () => ({ advance: () => {}, done: () => {} }),
    skipped: () => {},
    note: () => {},
  };
  /** [queries, n] influences of an index, from its rows and queries. */
  const influences = async (change: Record<string, unknown>) => {
    const { path, run } = configFile({ ...smallConfig(60), compressor: "uniform", r: 80, shard: 30, ...change });
    const folder = await buildToIndex({ ...ALONE, config: readConfig(path), folder: run, progress });
    const manifest = readManifest(folder);
    const floats = (file: string) => new Float32Array(Uint8Array.from(readFileSync(join(folder, file))).buffer);
    const [rows, queries] = [floats("rows.f32"), floats("queries.f32")];
    const R = manifest.dimension;
    const values = Array.from({ length: manifest.queries * manifest.n }, (_, at) => {
      const [q, i] = [Math.floor(at / manifest.n), at % manifest.n];
      let sum = 0;
      for (let j = 0; j < R; j++) sum -= queries[q * R + j]! * rows[i * R + j]!;
      return sum;
    });
    return { values, layers: manifest.layers.map(({ name }) => name) };
  };
  const models = [digitModel, otherCheckpoint()];
  const cases = [
    { change: { ensemble: { masks: 2 } }, members: [{ seed: "1/1" }, { seed: "1/2" }], names: ["mask 1", "mask 2"] },
    {
      change: { model: models, hessian: "joint" },
      members: models.map((model) => ({ model, hessian: "joint" })),
      names: ["model 1", "model 2"],
    },
  ];
  for (const { change, members: changes, names } of cases) {
    const ensemble = await influences(change);
    const members = await Promise.all(changes.map(influences));
    const layers = ["conv1", "conv2", "fc1", "fc2"];
    expect(ensemble.layers).toEqual(names.flatMap((name) => layers.map((layer) => `${name}: ${layer}`)));
    const scale = Math.max(...ensemble.values.map(Math.abs));
    ensemble.values.forEach((value, at) => {
      const mean = (members[0]!.values[at]! + members[1]!.values[at]!) / 2;
      expect(Math.abs(value - mean) / scale).toBeLessThan(1e-5);
    });
  }
});
