/**
 * Operators that no model of the zoo holds, against central differences of the loss: x·W → operator → squared error. The operands
 * are kept away from bends and poles.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { onnx } from "onnx-proto";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { selfCheck } from "../../offline/autodiff/self-check.ts";
import { compileGradient } from "../../offline/compile/compile.ts";
import { createBuilder } from "../../offline/onnx/builder.ts";
import { type Attribute, ELEMENT, type Graph } from "../../offline/onnx/graph.ts";
import { writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";
import { random } from "../../src/core/random.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-operators-"));
});
afterAll(() => rm(folder, { recursive: true }));

interface Case {
  op: string;
  /** Of the operator's first operand, after the batch. */
  shape: number[];
  attributes?: Record<string, Attribute>;
  /** Further operands: constants. */
  more?: onnx.ITensorProto[];
  /** The first operand's entries lie around this. */
  centre?: number;
  spread?: number;
  outputs?: number;
  opset?: number;
}

const ints = (...entries: number[]) => tensorOf(ELEMENT.int64, [entries.length], entries);
const index = (entry: number) => tensorOf(ELEMENT.int64, [], [entry]);
const floats = (shape: number[], entries: number[]) => tensorOf(ELEMENT.float32, shape, entries);
const noise = (shape: number[], seed: number, scale = 1) => {
  const generator = random(seed, "operators");
  return floats(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => scale * generator.normal()),
  );
};

const CASES: Case[] = [
  ...[
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Atanh",
    "Softsign",
    "Mish",
    "Selu",
    "Celu",
    "Elu",
    "HardSigmoid",
  ].map((op) => ({ op, shape: [6], centre: 0.3, spread: 0.1 })),
  { op: "Acosh", shape: [6], centre: 2, spread: 0.2 },
  { op: "Reciprocal", shape: [6], centre: 2, spread: 0.2 },
  { op: "ThresholdedRelu", shape: [6], centre: 2, spread: 0.2 },
  { op: "HardSwish", shape: [6], centre: 1, spread: 0.5 },
  { op: "Gelu", shape: [6], opset: 20 },
  { op: "Gelu", shape: [6], opset: 20, attributes: { approximate: "tanh" } },
  { op: "Clip", shape: [6], centre: 1, spread: 0.2, more: [floats([], [0]), floats([], [2])] },
  { op: "PRelu", shape: [6], centre: -1, spread: 0.2, more: [floats([6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])] },
  { op: "Mod", shape: [6], centre: 0.5, spread: 0.1, more: [floats([], [1.7])], attributes: { fmod: 1 } },
  { op: "Sum", shape: [6], more: [noise([6], 1), noise([1], 2)] },
  { op: "Mean", shape: [6], more: [noise([6], 1), noise([1], 2)] },
  { op: "Pow", shape: [6], centre: 2, spread: 0.2, more: [floats([], [2.5])] },
  { op: "Pow", shape: [6], more: [floats([], [3])] },
  ...[
    "ReduceL1",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceProd",
    "ReduceL2",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
  ].flatMap((op) =>
    [0, 1].map((keepdims) => ({
      op,
      shape: [3, 4],
      centre: 1,
      spread: 0.2,
      more: [ints(-1)],
      attributes: { keepdims },
    })),
  ),
  { op: "LpNormalization", shape: [3, 4], attributes: { axis: -1, p: 2 } },
  { op: "CumSum", shape: [5], more: [index(1)], attributes: { exclusive: 1 } },
  { op: "CumSum", shape: [5], more: [index(-1)], attributes: { reverse: 1 } },
  { op: "Trilu", shape: [4, 4], more: [index(-1)], attributes: { upper: 0 } },
  { op: "SpaceToDepth", shape: [2, 4, 4], attributes: { blocksize: 2 } },
  { op: "DepthToSpace", shape: [8, 2, 2], attributes: { blocksize: 2, mode: "CRD" } },
  { op: "InstanceNormalization", shape: [3, 4, 4], more: [noise([3], 1), noise([3], 2)] },
  { op: "GroupNormalization", shape: [4, 3, 3], more: [noise([2], 1), noise([2], 2)], attributes: { num_groups: 2 } },
  {
    op: "GroupNormalization",
    shape: [4, 3, 3],
    more: [noise([4], 1), noise([4], 2)],
    attributes: { num_groups: 2 },
    opset: 21,
  },
  { op: "Pad", shape: [2, 5], more: [ints(0, 0, 2, 0, 0, 3)], attributes: { mode: "wrap" }, opset: 19 },
  { op: "Pad", shape: [2, 5], more: [ints(-1, 2), floats([], [0]), ints(-1)] },
  { op: "Slice", shape: [8], more: [ints(7), ints(-100), ints(1), ints(-3)] },
  { op: "Tile", shape: [2, 3], more: [ints(1, 2, 2)] },
  {
    op: "Resize",
    shape: [2, 4],
    more: [floats([0], []), floats([3], [1, 1, 2.5])],
    attributes: { mode: "nearest", nearest_mode: "ceil", coordinate_transformation_mode: "asymmetric" },
  },
  {
    op: "Resize",
    shape: [2, 4, 4],
    more: [floats([0], []), floats([4], [1, 1, 2, 1.5])],
    attributes: { mode: "linear", coordinate_transformation_mode: "align_corners" },
  },
  { op: "TopK", shape: [6], more: [ints(3)], outputs: 2 },
  {
    op: "Einsum",
    shape: [3, 4],
    more: [noise([4, 2], 1), noise([3, 5], 2)],
    attributes: { equation: "bij,jk,il->bkl" },
  },
  {
    op: "MaxPool",
    shape: [2, 6, 6],
    attributes: { kernel_shape: [3, 2], strides: [1, 2], dilations: [2, 1], pads: [1, 0, 1, 0] },
  },
  {
    op: "AveragePool",
    shape: [2, 5, 5],
    attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], count_include_pad: 1 },
  },
  { op: "GlobalMaxPool", shape: [2, 3, 3] },
  {
    op: "ConvTranspose",
    shape: [4, 3, 3],
    more: [noise([4, 2, 3, 3], 1), noise([4], 2)],
    attributes: { group: 2, strides: [2, 2], output_padding: [1, 0], pads: [1, 0, 0, 1] },
  },
];

async function check({ op, shape, attributes = {}, more = [], centre = 0, spread = 1, outputs = 1, opset = 18 }: Case) {
  const [batch, width] = [3, 5];
  const size = shape.reduce((a, b) => a * b, 1);
  const graph: Graph = {
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", width] }],
    outputs: [],
    initializers: new Map([["layer.weight", noise([width, size], 3, 1 / Math.sqrt(width))]]),
    nodes: [],
    opset,
    irVersion: 10,
  };
  const b = createBuilder(graph, "batch");
  more.forEach((tensor, at) => {
    b.initializers.set(`operand.${at}`, tensor);
  });
  const h = b.shifted(b.scaled(b.op("MatMul", [b.value("x"), b.value("layer.weight")]), spread), centre);
  const operands = [b.reshape(h, ["batch", ...shape]), ...more.map((_, at) => b.value(`operand.${at}`))];
  b.append({
    name: op,
    op,
    domain: "",
    inputs: operands.map(({ name }) => name),
    outputs: Array.from({ length: outputs }, (_, at) => (at === 0 ? "y" : `y.${at}`)),
    attributes,
  });
  const flat = b.op("Flatten", [b.value("y")], { axis: 1 });
  const ports = [{ name: flat.name, type: flat.type, shape: flat.shape }];
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel({ ...graph, outputs: ports, initializers: b.initializers, nodes: b.nodes }));
  const options = {
    loss: "squared-error",
    layers: ["layer.weight"],
    r: { perLayer: 10_000 },
    compressor: "uniform",
    seed: 1,
  } as const;
  const compiled = await compileGradient(path, options);
  const generator = random(4, op);
  const made = (dims: number[]) =>
    new ort.Tensor(
      "float32",
      Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => generator.normal()),
      dims,
    );
  const target = made([batch, Number(compiled.target?.shape[1])]);
  return selfCheck(compiled, { x: made([batch, width]), target });
}

test.each(CASES.map((one) => [one.op, one] as const))("%s", async (_, one) => {
  const { differences } = await check(one);
  expect(differences.map(({ layer }) => layer)).toEqual(["layer"]);
  expect(differences[0]?.error).toBeLessThan(0.01);
});
