/** What exporters wrap operators in: local functions, constant branches, constants as nodes. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import onnxProto, { type onnx } from "onnx-proto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileGradient } from "../../offline/compile/compile.ts";
import { type Dim, minus, plus, productOf, quotient, times } from "../../offline/onnx/dims.ts";
import { ELEMENT } from "../../offline/onnx/graph.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";
import { feedsOf, runner } from "./run.ts";
import type { Array64 } from "./safetensors.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-forms-"));
});
afterAll(() => rm(folder, { recursive: true }));

const port = (name: string, shape: (number | string)[]): onnx.IValueInfoProto => ({
  name,
  type: {
    tensorType: {
      elemType: ELEMENT.float32,
      shape: { dim: shape.map((dim) => (typeof dim === "number" ? { dimValue: dim } : { dimParam: dim })) },
    },
  },
});
const { AttributeType } = onnxProto.onnx.AttributeProto;
const node = (
  opType: string,
  input: string[],
  output: string[],
  attribute: onnx.IAttributeProto[] = [],
  domain = "",
) => ({
  opType,
  input,
  output,
  attribute,
  domain,
});
const weight = { ...tensorOf(ELEMENT.float32, [3, 2], [0.5, -1, 0.25, 2, -0.75, 1]), name: "layer.weight" };

/** x [batch, 3] · W → h [batch, 2], then `nodes` to y. */
async function gradientOf(nodes: onnx.INodeProto[], more: onnx.IModelProto = {}): Promise<Float32Array> {
  const bytes = onnxProto.onnx.ModelProto.encode({
    irVersion: 8,
    opsetImport: [
      { domain: "", version: 17 },
      { domain: "local", version: 1 },
    ],
    graph: {
      name: "forms",
      input: [port("x", ["batch", 3])],
      output: [port("y", ["batch", 2])],
      initializer: [weight],
      node: [node("MatMul", ["x", "layer.weight"], ["h"]), ...nodes],
    },
    ...more,
  }).finish();
  const path = join(folder, "model.onnx");
  await writeFile(path, bytes);
  const options = { loss: "squared-error", r: { perLayer: 6 }, compressor: "uniform", seed: 1 } as const;
  const compiled = await compileGradient(path, options);
  const arrays = new Map<string, Array64>([
    ["x", { dtype: "F32", shape: [2, 3], data: Float64Array.of(1, 2, 3, -1, 0.5, 2) }],
    ["target", { dtype: "F32", shape: [2, 2], data: Float64Array.of(0, 1, 1, 0) }],
  ]);
  return (await (await runner(compiled.graph))(feedsOf(compiled, arrays))).gradient;
}

const slope: onnx.IAttributeProto = { name: "alpha", type: AttributeType.FLOAT, f: 0.25 };
const plain = () => gradientOf([node("LeakyRelu", ["h"], ["y"], [slope])]);

test("a local function, with an attribute of its caller, calling another", async () => {
  const reference: onnx.IAttributeProto = { name: "alpha", type: AttributeType.FLOAT, refAttrName: "slope" };
  const opsetImport = [
    { domain: "", version: 17 },
    { domain: "local", version: 1 },
  ];
  const inner = {
    name: "Bend",
    domain: "local",
    input: ["a"],
    output: ["b"],
    attribute: ["slope"],
    opsetImport,
    node: [node("LeakyRelu", ["a"], ["b"], [reference])],
  };
  const passed: onnx.IAttributeProto = { name: "slope", type: AttributeType.FLOAT, refAttrName: "slope" };
  const outer = {
    name: "Twice",
    domain: "local",
    input: ["a"],
    output: ["c"],
    attribute: ["slope"],
    opsetImport,
    node: [node("Identity", ["a"], ["b"]), node("Bend", ["b"], ["c"], [passed], "local")],
  };
  const call = node("Twice", ["h"], ["y"], [{ ...slope, name: "slope" }], "local");
  expect(await gradientOf([call], { functions: [inner, outer] })).toEqual(await plain());
});

test("an If whose condition is a constant, or follows from a shape", async () => {
  const branch = (op: string): onnx.IGraphProto => ({
    name: op,
    node: [node(op, ["h"], [`${op}.y`], op === "LeakyRelu" ? [slope] : [])],
    output: [port(`${op}.y`, ["batch", 2])],
  });
  const branches: onnx.IAttributeProto[] = [
    { name: "then_branch", type: AttributeType.GRAPH, g: branch("LeakyRelu") },
    { name: "else_branch", type: AttributeType.GRAPH, g: branch("Erf") },
  ];
  const two = { name: "value", type: AttributeType.TENSOR, t: tensorOf(ELEMENT.int64, [], [2]) };
  const width = [
    node("Constant", [], ["two"], [two]),
    node("Shape", ["h"], ["shape"]),
    node("Constant", [], ["one"], [{ ...two, t: tensorOf(ELEMENT.int64, [], [1]) }]),
    node("Gather", ["shape", "one"], ["width"]),
    node("Equal", ["width", "two"], ["condition"]),
  ];
  expect(await gradientOf([...width, node("If", ["condition"], ["y"], branches)])).toEqual(await plain());
});

test("an If that depends on the input is refused", async () => {
  const branch: onnx.IGraphProto = { name: "b", node: [node("Relu", ["h"], ["r"])], output: [port("r", ["batch", 2])] };
  const branches = ["then_branch", "else_branch"].map((name) => ({ name, type: AttributeType.GRAPH, g: branch }));
  const condition = [
    node("ReduceMax", ["h"], ["most"], [{ name: "keepdims", type: AttributeType.INT, i: 0 }]),
    node("Cast", ["most"], ["condition"], [{ name: "to", type: AttributeType.INT, i: ELEMENT.bool }]),
  ];
  await expect(gradientOf([...condition, node("If", ["condition"], ["y"], branches)])).rejects.toThrow(
    /\(If\): expected a constant condition/,
  );
});

test("extents: symbolic arithmetic agrees with arithmetic", () => {
  const values: Record<string, number> = { batch: 7, seq: 5 };
  const dims = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom("batch", "seq"));
  const at = (dim: Dim): number =>
    typeof dim === "number"
      ? dim
      : dim
          .split("+")
          .reduce((sum, term) => sum + term.split("*").reduce((p, f) => p * (values[f] ?? Number(f)), 1), 0);
  fc.assert(
    fc.property(dims, dims, dims, (a, b, c) => {
      expect(at(plus(times(a, b), c))).toBe(at(a) * at(b) + at(c));
      expect(minus(plus(a, b), b)).toBe(a);
      expect(quotient(productOf([a, b, c]), times(a, c))).toBe(b);
      expect(times(a, plus(b, c))).toBe(plus(times(c, a), times(b, a)));
    }),
  );
});
