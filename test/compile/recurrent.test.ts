/** Recurrent layers in every form that ONNX gives them: unrolled, they agree with onnxruntime's own, and with central differences. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { onnx } from "onnx-proto";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { selfCheck } from "../../offline/autodiff/self-check.ts";
import { compileGradient } from "../../offline/compile/compile.ts";
import { type Attribute, ELEMENT, type Graph, type Node } from "../../offline/onnx/graph.ts";
import { writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";
import { random } from "../../src/core/random.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-recurrent-"));
});
afterAll(() => rm(folder, { recursive: true }));

const [TIME, WIDTH, HIDDEN, EXAMPLES] = [3, 2, 4, 3];
const GATES: Record<string, number> = { LSTM: 4, GRU: 3, RNN: 1 };

interface Form {
  op: string;
  directions?: 1 | 2;
  bias?: boolean;
  initial?: boolean;
  attributes?: Record<string, Attribute>;
  /** Further inputs by position. */
  more?: Record<number, onnx.ITensorProto>;
  time?: number | string;
  /** Which of the operator's outputs the loss reads. */
  output?: number;
}

/** x [batch, T·I] · W → [T, batch, I] → the layer → [batch, …] as `y`, and `h`s that start where the input's sum says. */
function model({
  op,
  directions = 1,
  bias = true,
  initial = false,
  attributes = {},
  more = {},
  time = TIME,
  output = 0,
}: Form): Graph {
  const generator = random(1, "weights");
  const noise = (...shape: number[]) =>
    tensorOf(
      ELEMENT.float32,
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b) }, () => generator.normal() / 2),
    );
  const gates = GATES[op] ?? 1;
  const initializers = new Map([
    ["input.weight", noise(WIDTH, WIDTH)],
    ["onnx::W", noise(directions, gates * HIDDEN, WIDTH)],
    ["onnx::R", noise(directions, gates * HIDDEN, HIDDEN)],
    ["onnx::B", noise(directions, 2 * gates * HIDDEN)],
    ["start.weight", noise(WIDTH, HIDDEN)],
    ["first", tensorOf(ELEMENT.int64, [], [0])],
    ["direction", tensorOf(ELEMENT.int64, [1], [0])],
    ["copies", tensorOf(ELEMENT.int64, [3], [directions, 1, 1])],
    ["flat", tensorOf(ELEMENT.int64, [2], [0, -1])],
    ...Object.entries(more).map(([at, tensor]) => [`more${at}`, tensor] as const),
  ]);
  const node = (op: string, inputs: string[], outputs: string[], attributes: Node["attributes"] = {}): Node => ({
    name: outputs[0] ?? op,
    op,
    domain: "",
    inputs,
    outputs,
    attributes,
  });
  const states = op === "LSTM" ? 2 : 1;
  const inputs = [
    "turned",
    "onnx::W",
    "onnx::R",
    bias ? "onnx::B" : "",
    "",
    ...(initial ? Array<string>(states).fill("states") : []),
  ];
  for (const at of Object.keys(more)) {
    while (inputs.length <= Number(at)) inputs.push("");
    inputs[Number(at)] = `more${at}`;
  }
  const outputs = ["all", "last", ...(op === "LSTM" ? ["cell"] : [])];
  const order = output === 0 ? [2, 0, 1, 3] : [1, 0, 2];
  return {
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", time, WIDTH] }],
    outputs: [{ name: "y", type: ELEMENT.float32, shape: ["batch", "entries"] }],
    initializers,
    nodes: [
      node("MatMul", ["x", "input.weight"], ["seen"]),
      node("Transpose", ["seen"], ["turned"], { perm: [1, 0, 2] }),
      node("Gather", ["turned", "first"], ["start"], { axis: 0 }),
      node("MatMul", ["start", "start.weight"], ["state"]),
      node("Unsqueeze", ["state", "direction"], ["one"]),
      node("Tile", ["one", "copies"], ["states"]),
      { ...node(op, inputs, outputs, { hidden_size: HIDDEN, ...attributes }), name: "the_layer" },
      { ...node("Transpose", [outputs[output] ?? ""], ["back"], { perm: order }) },
      node("Reshape", ["back", "flat"], ["y"]),
    ],
    opset: 18,
    irVersion: 10,
  };
}

/** The recurrent weight is what unrolling is about; fixtures/zoo has the others. */
async function compiled(form: Form, layers = ["onnx::R"]) {
  const path = join(folder, "model.onnx");
  const bytes = writeModel(model(form));
  await writeFile(path, bytes);
  const options = { loss: "squared-error", r: { perLayer: 64 }, compressor: "uniform", seed: 1 } as const;
  return { bytes, graph: await compileGradient(path, { ...options, layers }) };
}

const both: Form[] = ["LSTM", "GRU"].flatMap((op) => [
  { op },
  { op, initial: true, bias: false, output: 1 },
  { op, attributes: { direction: "reverse" }, initial: true },
  { op, directions: 2, attributes: { direction: "bidirectional" } },
]);
const forms: Form[] = [
  ...both,
  { op: "RNN", initial: true },
  { op: "RNN", directions: 2, attributes: { direction: "bidirectional" } },
  { op: "LSTM", output: 2, initial: true },
  { op: "GRU", attributes: { linear_before_reset: 1 }, initial: true },
  { op: "GRU", attributes: { linear_before_reset: 1, direction: "bidirectional" }, directions: 2, output: 1 },
];

test.each(forms.map((form) => [JSON.stringify(form), form] as const))("%s", async (_, form) => {
  const { bytes, graph } = await compiled(form);
  const generator = random(2, "x");
  const x = Float32Array.from({ length: EXAMPLES * TIME * WIDTH }, () => generator.normal());
  const feeds = { x: new ort.Tensor("float32", x, [EXAMPLES, TIME, WIDTH]) };
  const { y } = await (await ort.InferenceSession.create(bytes)).run(feeds);
  if (!y) throw new Error("expected an output y");
  const target = new ort.Tensor("float32", new Float32Array(y.size), y.dims);
  const session = await ort.InferenceSession.create(graph.graph);
  const got = await session.run({ ...feeds, target }, ["y"]);
  const [own, unrolled] = [Array.from(y.data, Number), Array.from(got.y?.data ?? [], Number)];
  expect(unrolled.length).toBe(own.length);
  unrolled.forEach((entry, at) => {
    expect(entry).toBeCloseTo(own[at] ?? Number.NaN, 5);
  });
  const { skipped } = await selfCheck(graph, { ...feeds, target });
  expect(skipped).toEqual([]);
});

test("weights and biases of a recurrent layer are trained, whatever an exporter calls them", async () => {
  const { graph } = await compiled({ op: "GRU" }, ["!input.weight"]);
  const names = graph.layers.flatMap((layer) => layer.parameters.map(({ name }) => name));
  expect(names).toEqual(expect.arrayContaining(["onnx::W", "onnx::R", "onnx::B"]));
});

test("forms that are refused say which to use instead", async () => {
  const lengths = tensorOf(ELEMENT.int32, [EXAMPLES], [3, 2, 1]);
  await expect(compiled({ op: "LSTM", time: "time" })).rejects.toThrow(
    /^node the_layer \(LSTM\): expected a fixed number of time steps, to unroll them, got time; export with a fixed sequence length/,
  );
  await expect(compiled({ op: "GRU", more: { 4: lengths } })).rejects.toThrow(
    /expected sequences of one length, got their lengths as an input; export without pack_padded_sequence/,
  );
  await expect(compiled({ op: "LSTM", attributes: { input_forget: 1 } })).rejects.toThrow(/expected a plain cell/);
  const start = tensorOf(ELEMENT.float32, [1, EXAMPLES, 3], new Array(9).fill(0));
  await expect(compiled({ op: "GRU", more: { 5: start } })).rejects.toThrow(
    /expected an initial state of 4 entries, got 3; train without proj_size/,
  );
});
