/** What `inspect` says of models: everything covered, something not, and how the plans are chosen. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { gpt2 } from "../../offline/bench/models.ts";
import { inspectModel } from "../../offline/compile/inspect.ts";
import { ELEMENT } from "../../offline/onnx/graph.ts";
import { writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));

async function inTemporaryFile<T>(bytes: Uint8Array, use: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "influence-inspect-"));
  try {
    await writeFile(join(folder, "model.onnx"), bytes);
    return await use(join(folder, "model.onnx"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("the digit classifier: its layers, axes and cost", async () => {
  const inspection = await inspectModel(fixture("mnist-cnn/model.onnx"));
  expect(inspection.layers.map(({ name, operators, d, uncovered }) => [name, operators, d, uncovered])).toEqual([
    ["conv1", ["Conv"], 80, null],
    ["conv2", ["Conv"], 1168, null],
    ["fc1", ["Gemm"], 50240, null],
    ["fc2", ["Gemm"], 650, null],
  ]);
  expect(inspection.inputs).toEqual([{ name: "image", type: "float32", shape: ["batch", 1, 28, 28] }]);
  expect(inspection.outputs).toEqual([{ name: "logits", type: "float32", shape: ["batch", 10] }]);
  expect(inspection.dynamicAxes).toEqual(["image.0: batch"]);
  expect(inspection.covered).toBe(1);
  expect(inspection.relativeCost).toBeGreaterThan(2);
});

test("the chosen plan is the cheapest of those that the layer has", async () => {
  const { layers } = await inspectModel(fixture("mnist-cnn/model.onnx"), { compressor: "importance" });
  const kinds = (layer: string) => {
    const [plan] = layers.find(({ name }) => name === layer)?.plans ?? [];
    const all = plan ? [plan, ...plan.others] : [];
    expect(all.map(({ cost }) => cost)).toEqual(all.map(({ cost }) => cost).sort((a, b) => a - b));
    return all.map(({ kind }) => kind).sort();
  };
  expect(kinds("conv2")).toEqual(["blocks", "taps", "whole"]);
  expect(kinds("fc1")).toEqual(["blocks", "rows", "whole"]);
});

test("each parameter is kept in its eigenbasis, by importance where it is not known as a matrix, or whole", async () => {
  const { layers } = await inspectModel(fixture("zoo/mobilenet.onnx"), { perLayer: 60 });
  const plans = layers.flatMap((layer) => layer.plans);
  const by = (parameter: string) => plans.find((plan) => plan.parameter === parameter);
  expect(by("3.3.weight")).toMatchObject({ by: "importance" });
  expect(by("3.0.weight")).toMatchObject({ by: "eigenbasis", kind: "turned" });
  expect(by("1.weight")).toMatchObject({ by: "all" });
});

test("statistics and constants are listed, and are not trained", async () => {
  const { layers, covered } = await inspectModel(fixture("zoo/gpt2.onnx"));
  expect(covered).toBe(1);
  const constants = layers.filter(({ trained }) => !trained);
  expect(constants.length).toBeGreaterThan(0);
  for (const { uncovered } of constants) expect(uncovered).toMatch(/constant or a statistic|does not reach/);
});

test("a layer behind an operator without a rule is not covered, and the node is named", async () => {
  const weight = tensorOf(ELEMENT.float32, [3, 3], new Array(9).fill(0.1));
  const node = (op: string, inputs: string[], outputs: string[]) => ({
    name: `the_${op}`,
    op,
    domain: "",
    inputs,
    outputs,
    attributes: {},
  });
  const bytes = writeModel({
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", 3] }],
    outputs: [{ name: "y", type: ELEMENT.float32, shape: ["batch", 3] }],
    initializers: new Map([
      ["before.weight", weight],
      ["after.weight", weight],
    ]),
    nodes: [
      node("MatMul", ["x", "before.weight"], ["a"]),
      node("Hardmax", ["a"], ["b"]),
      { ...node("MatMul", ["b", "after.weight"], ["y"]), name: "last" },
    ],
    opset: 18,
    irVersion: 10,
  });
  const { layers, covered } = await inTemporaryFile(bytes, inspectModel);
  expect(covered).toBe(0.5);
  expect(layers.map(({ name, uncovered }) => [name, uncovered?.slice(0, 56) ?? null])).toEqual([
    ["before", "node the_Hardmax (Hardmax): no gradient rule for operato"],
    ["after", null],
  ]);
});

test("few coordinates are gathered row by row, many from blocks of a product", async () => {
  const bytes = gpt2({ layers: 1, width: 128, heads: 2, vocabulary: 256, length: 64 });
  const planAt = (perLayer: number) =>
    inTemporaryFile(bytes, async (path) => {
      const { layers } = await inspectModel(path, { perLayer, compressor: "uniform" });
      return layers.find(({ name }) => name === "h.0.mlp.c_fc")?.plans[0]?.kind;
    });
  expect(await planAt(64)).toBe("rows");
  expect(await planAt(16_384)).toMatch(/blocks|whole/);
});
