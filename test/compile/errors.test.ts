/** What a user reads when a model cannot be compiled: what, where, expected, got, and what to do. */
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { onnx } from "onnx-proto";
import { Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CompileOptions, compileGradient } from "../../offline/compile/compile.ts";
import { ELEMENT, type Graph, type Node } from "../../offline/onnx/graph.ts";
import { readModel, writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";
import { runner } from "./run.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-errors-"));
});
afterAll(() => rm(folder, { recursive: true }));

const node = (op: string, inputs: string[], outputs: string[], attributes: Node["attributes"] = {}): Node => ({
  name: `the_${op}`,
  op,
  domain: "",
  inputs,
  outputs,
  attributes,
});

const float = (shape: number[]): onnx.ITensorProto =>
  tensorOf(ELEMENT.float32, shape, new Array(shape.reduce((a, b) => a * b, 1)).fill(0.5));

/** x [batch, 4] · W [4, 3], then the given nodes from `h` [batch, 3] to `logits`. */
function model(after: Node[], more: Record<string, onnx.ITensorProto> = {}, change: Partial<Graph> = {}): Graph {
  return {
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", 4] }],
    outputs: [{ name: "logits", type: ELEMENT.float32, shape: ["batch", 3] }],
    initializers: new Map([["layer.weight", float([4, 3])], ...Object.entries(more)]),
    nodes: [node("MatMul", ["x", "layer.weight"], ["h"]), ...after],
    opset: 18,
    irVersion: 10,
    ...change,
  };
}

async function failure(graph: Graph, options: Partial<CompileOptions> = {}): Promise<string> {
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel(graph));
  const result = compileGradient(path, {
    loss: "cross-entropy",
    r: { perLayer: 4 },
    compressor: "uniform",
    seed: 1,
    ...options,
  });
  return result.then(
    () => "compiled",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

const relu = node("Relu", ["h"], ["logits"]);

test("the model that the others are variations of compiles", async () => {
  expect(await failure(model([relu]))).toBe("compiled");
});

test("no such file, and files that are no model", async () => {
  await expect(readModel(join(folder, "none.onnx"))).rejects.toThrow(/^no such model: .*none\.onnx$/);
  const path = join(folder, "text.onnx");
  await writeFile(path, "not a model");
  await expect(readModel(path)).rejects.toThrow(/^not an ONNX model: .*text\.onnx; expected/);
});

test("an operator without a rule", async () => {
  expect(await failure(model([node("Det", ["h"], ["logits"])]))).toMatch(
    /^node the_Det \(Det\): no rule for operator Det; supported: Abs, /,
  );
  expect(await failure(model([node("Hardmax", ["h"], ["logits"])]))).toMatch(
    /^node the_Hardmax \(Hardmax\): no gradient rule for operator Hardmax; supported: Abs, /,
  );
  const custom = { ...node("Relu", ["h"], ["logits"]), domain: "my.own" };
  expect(await failure(model([custom]))).toContain("no rule for operator my.own.Relu");
});

test("operators that mix examples", async () => {
  const statistics = { s: float([3]), t: float([3]), m: float([3]), v: float([3]) };
  const norm = node("BatchNormalization", ["h", "s", "t", "m", "v"], ["logits"], { training_mode: 1 });
  expect(await failure(model([norm], statistics))).toMatch(
    /^node the_BatchNormalization \(BatchNormalization\): batch normalisation in training mode combines values of different examples; export the model in eval mode/,
  );
  const softmax = node("Softmax", ["h"], ["logits"], { axis: 0 });
  expect(await failure(model([softmax]))).toMatch(
    /^node the_Softmax \(Softmax\): combines values of different examples/,
  );
});

test("a normalised parameter too large to have its whole gradient made", async () => {
  const large = { "norm.weight": float([1100, 1000]), axis: tensorOf(ELEMENT.int64, [1], [0]) };
  const nodes = [
    node("ReduceL2", ["norm.weight", "axis"], ["length"]),
    node("Div", ["norm.weight", "length"], ["unit"]),
    node("ReduceMean", ["h", "last"], ["mean"]),
    node("Expand", ["mean", "wide"], ["row"]),
    node("MatMul", ["row", "unit"], ["logits"]),
  ];
  const more = {
    ...large,
    last: tensorOf(ELEMENT.int64, [1], [1]),
    wide: tensorOf(ELEMENT.int64, [2], [1, 1100]),
  };
  expect(await failure(model(nodes, more))).toMatch(
    /^node the_ReduceL2 \(ReduceL2\): expected a parameter of at most 1048576 entries before ReduceL2, .*remove_parametrizations/,
  );
});

test("a fixed batch axis", async () => {
  const inputs = [{ name: "x", type: ELEMENT.float32, shape: [1, 4] }];
  expect(await failure(model([relu], {}, { inputs }))).toMatch(
    /input x: expected its first axis, the batch, to be dynamic, got 1; export with dynamic_shapes/,
  );
});

test("parameters that are integers", async () => {
  const initializers = new Map([["layer.weight", tensorOf(ELEMENT.int64, [4, 3], new Array(12).fill(1))]]);
  const inputs = [{ name: "x", type: ELEMENT.int64, shape: ["batch", 4] }];
  const cast = node("Cast", ["h"], ["logits"], { to: ELEMENT.float32 });
  expect(await failure(model([cast], {}, { inputs, initializers }))).toMatch(
    /expected a floating-point parameter that reaches output logits, got none; integer/,
  );
});

test("a quantised model", async () => {
  const scale = { scale: float([]) };
  const dequantise = node("DequantizeLinear", ["h", "scale"], ["logits"]);
  expect(await failure(model([dequantise], scale))).toMatch(
    /^node the_DequantizeLinear \(DequantizeLinear\): the model is quantised, .*; compile the float model/,
  );
});

test("a layer pattern that matches nothing, with the nearest names", async () => {
  const model = fileURLToPath(new URL("../../fixtures/mnist-cnn/model.onnx", import.meta.url));
  const options = { loss: "cross-entropy", r: { perLayer: 4 }, compressor: "uniform", seed: 1 } as const;
  await expect(compileGradient(model, { ...options, layers: ["cnov1"] })).rejects.toThrow(
    "layers: expected pattern cnov1 to match a parameter, got none; the nearest names are conv1.weight, conv1.bias, conv2.weight",
  );
  await expect(compileGradient(model, { ...options, layers: ["!conv*", "!fc"] })).rejects.toThrow(
    /expected some parameters to be left, got none/,
  );
  const byKind = await compileGradient(model, { ...options, layers: ["kind:gemm", "!size>=100"] });
  expect(byKind.layers.flatMap(({ parameters }) => parameters.map(({ name }) => name))).toEqual([
    "fc1.bias",
    "fc2.bias",
  ]);
  const { layers } = await compileGradient(model, { ...options, layers: ["conv", "fc1", "!conv*bias"] });
  expect(layers.map(({ parameters }) => parameters.map(({ name }) => name))).toEqual([
    ["conv1.weight"],
    ["conv2.weight"],
    ["fc1.weight", "fc1.bias"],
  ]);
});

test("a loss that does not fit the output, and an output that is not there", async () => {
  expect(await failure(model([relu]), { loss: "next-token" })).toMatch(
    /^loss next-token: expected output logits to be \[batch, positions, vocabulary\], got shape \[batch,3\]; choose another loss or output$/,
  );
  expect(await failure(model([relu]), { loss: "output" })).toMatch(
    /^loss output: expected output logits to be \[batch\]/,
  );
  expect(await failure(model([relu]), { output: "scores" })).toBe("output: expected one of logits, got scores");
});

test("a target that does not fit", async () => {
  const one = new Map([["layer.weight", float([4, 1])]]);
  expect(await failure(model([relu], {}, { initializers: one }))).toMatch(
    /^loss cross-entropy: expected output logits to be \[batch, classes\] of 2 classes or more, got shape \[batch,1\]; choose another loss or output$/,
  );
  expect(await failure(model([relu], {}, { initializers: one }), { loss: "binary-cross-entropy" })).toBe("compiled");

  const withTarget = (type: number, shape: (string | number)[]) =>
    model(
      [relu],
      {},
      {
        inputs: [
          { name: "x", type: 1, shape: ["batch", 4] },
          { name: "target", type, shape },
        ],
      },
    );
  expect(await failure(withTarget(ELEMENT.float32, ["batch", 3]))).toBe(
    "loss cross-entropy: expected input target of the model to be the loss's target, int64 [batch], got float32 [batch, 3]; rename the input in the export or choose another loss",
  );
  expect(await failure(withTarget(ELEMENT.float32, ["batch", 3]), { loss: "squared-error" })).toBe("compiled");
  expect(await failure(withTarget(ELEMENT.int64, ["batch"]))).toBe("compiled");
});

test("a target fed in another shape than the compiled graph declares is refused when it runs", async () => {
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel(model([relu])));
  const { graph } = await compileGradient(path, {
    loss: "squared-error",
    r: { perLayer: 4 },
    compressor: "uniform",
    seed: 1,
  });
  const run = await runner(graph);
  const zeros = (shape: number[]) => new Tensor("float32", new Float32Array(8).slice(0, 2 * (shape[1] ?? 1)), shape);
  const x = zeros([2, 4]);
  await expect(run({ x, target: zeros([2]) })).rejects.toThrow(/rank for input: target Got: 1 Expected: 2/);
  await expect(run({ x, target: zeros([2, 4]) })).rejects.toThrow(
    /dimensions for input: target[\s\S]*Got: 4 Expected: 3/,
  );
});

test("more coordinates than entries, or no number of them", async () => {
  expect(await failure(model([relu]), { r: { total: 13 } })).toMatch(/^r: expected at most d = 12/);
  expect(await failure(model([relu]), { r: { perLayer: 0 } })).toMatch(
    /^r: expected a positive integer per layer, got 0/,
  );
});

test("weights in external files are referenced, not read: 10 GB in little memory and time", async () => {
  const [rows, columns] = [50_000, 50_000];
  const external = (location: string, dims: number[]): onnx.ITensorProto => ({
    dims,
    dataType: ELEMENT.float32,
    dataLocation: 1,
    externalData: [{ key: "location", value: location }],
  });
  const initializers = new Map([
    ["big.weight", external("weights.bin", [rows, columns])],
    ["head.weight", float([columns, 3])],
  ]);
  const graph = model(
    [],
    {},
    {
      initializers,
      inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", rows] }],
      nodes: [node("MatMul", ["x", "big.weight"], ["h"]), node("MatMul", ["h", "head.weight"], ["logits"])],
    },
  );
  const path = join(folder, "external.onnx");
  await writeFile(path, writeModel(graph));
  await writeFile(join(folder, "weights.bin"), "");
  await truncate(join(folder, "weights.bin"), 4 * rows * columns);
  const before = process.memoryUsage().rss;
  const start = performance.now();
  const compiled = await compileGradient(path, {
    loss: "cross-entropy",
    r: { perLayer: 1024 },
    compressor: "uniform",
    seed: 1,
  });
  expect(performance.now() - start).toBeLessThan(10_000);
  expect(process.memoryUsage().rss - before).toBeLessThan(500e6);
  expect(compiled.externalData).toEqual(["weights.bin"]);
  expect(compiled.layers[0]?.d).toBe(rows * columns);
});
