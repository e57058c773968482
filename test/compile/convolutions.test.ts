/** Convolutions over long lines: kept entries, gathered line by line, are those of the whole gradient. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileGradient, differentiate } from "../../offline/compile/compile.ts";
import { type Attribute, ELEMENT, type Graph } from "../../offline/onnx/graph.ts";
import { readModel, writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";
import { random } from "../../src/core/random.ts";
import { relativeError, runner } from "./run.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-convolutions-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** So many channels that products of blocks of them would cost more than the kept entries one by one. */
const [EXAMPLES, CHANNELS, OUTPUTS] = [2, 128, 128];
const noise = (size: number, seed: string) => {
  const generator = random(1, seed);
  return Float32Array.from({ length: size }, () => generator.normal());
};

const forms: { shape: number[]; kernel: number[]; attributes: Record<string, Attribute> }[] = [
  { shape: [6, 34], kernel: [3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { shape: [7, 70], kernel: [3, 4], attributes: { strides: [2, 2], pads: [0, 1, 2, 0] } },
  { shape: [7, 40], kernel: [2, 3], attributes: { dilations: [3, 2], strides: [1, 1] } },
  { shape: [5, 33], kernel: [3, 2], attributes: { group: 2, strides: [2, 1] } },
  { shape: [90], kernel: [9], attributes: { strides: [2] } },
];

test.each(forms)("image $shape, kernel $kernel, $attributes", async ({ shape, kernel, attributes }) => {
  const group = typeof attributes.group === "number" ? attributes.group : 1;
  const weight = [OUTPUTS, CHANNELS / group, ...kernel];
  const d = weight.reduce((a, b) => a * b);
  const graph: Graph = {
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", CHANNELS, ...shape] }],
    outputs: [{ name: "y", type: ELEMENT.float32, shape: ["batch", 1] }],
    initializers: new Map([
      ["conv.weight", tensorOf(ELEMENT.float32, weight, noise(d, "weight"))],
      ["flat", tensorOf(ELEMENT.int64, [2], [0, -1])],
      ["axis", tensorOf(ELEMENT.int64, [1], [1])],
    ]),
    nodes: [
      { name: "conv", op: "Conv", domain: "", inputs: ["x", "conv.weight"], outputs: ["h"], attributes },
      { name: "bend", op: "Tanh", domain: "", inputs: ["h"], outputs: ["t"], attributes: {} },
      { name: "flatten", op: "Reshape", domain: "", inputs: ["t", "flat"], outputs: ["r"], attributes: {} },
      { name: "mean", op: "ReduceMean", domain: "", inputs: ["r", "axis"], outputs: ["y"], attributes: {} },
    ],
    opset: 18,
    irVersion: 10,
  };
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel(graph));
  const options = { loss: "squared-error", compressor: "uniform", seed: 1 } as const;
  const [whole, some] = [
    await compileGradient(path, { ...options, r: { perLayer: d }, plan: "whole" }),
    await compileGradient(path, { ...options, r: { perLayer: 600 } }),
  ];
  const kept = Array.from(some.mask[0]?.kept ?? []);
  const { gradients } = differentiate(await readModel(path), path, options);
  expect(gradients.get("conv.weight")?.plan(kept).kind).toBe("taps");
  const size = shape.reduce((a, b) => a * b, EXAMPLES * CHANNELS);
  const feeds = {
    x: new ort.Tensor("float32", noise(size, "x"), [EXAMPLES, CHANNELS, ...shape]),
    target: new ort.Tensor("float32", noise(EXAMPLES, "target"), [EXAMPLES, 1]),
  };
  const all = await (await runner(whole.graph))(feeds);
  const few = await (await runner(some.graph))(feeds);
  const expected = Array.from({ length: EXAMPLES }, (_, row) =>
    kept.map((at) => all.gradient[row * d + at] ?? 0),
  ).flat();
  expect(relativeError(few.gradient, expected)).toBeLessThan(1e-5);
});
