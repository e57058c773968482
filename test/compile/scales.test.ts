/** Scales of channels, with few positions and with many: Σ over positions of cotangent × input, in float64 and by hand. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileGradient } from "../../offline/compile/compile.ts";
import { ELEMENT, type Graph } from "../../offline/onnx/graph.ts";
import { writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";
import { random } from "../../src/core/random.ts";
import { relativeError, runner } from "./run.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-scales-"));
});
afterAll(() => rm(folder, { recursive: true }));

const [EXAMPLES, CHANNELS] = [3, 4];
const noise = (size: number, seed: string) => {
  const generator = random(1, seed);
  return Float32Array.from({ length: size }, () => generator.normal());
};

const forms = [[3, 5], [12, 13], [300], [6, 5, 7]].flatMap((image) => [
  { image, scale: [CHANNELS, ...image.map(() => 1)] },
  { image, scale: [1, CHANNELS, ...image.map(() => 1)] },
  { image, scale: [1] },
]);

test.each(forms)("image $image, scale $scale", async ({ image, scale }) => {
  const shape = [CHANNELS, ...image];
  const [width, positions] = [shape, image].map((extents) => extents.reduce((a, b) => a * b, 1));
  if (!width || !positions) throw new Error("an image: expected extents, got none");
  const count = Math.max(...scale);
  const s = noise(count, "scale");
  const graph: Graph = {
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", ...shape] }],
    outputs: [{ name: "y", type: ELEMENT.float32, shape: ["batch", ...shape] }],
    initializers: new Map([["scale.weight", tensorOf(ELEMENT.float32, scale, s)]]),
    nodes: [{ name: "scale", op: "Mul", domain: "", inputs: ["x", "scale.weight"], outputs: ["y"], attributes: {} }],
    opset: 18,
    irVersion: 10,
  };
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel(graph));
  const r = { perLayer: count };
  const compiled = await compileGradient(path, { loss: "squared-error", compressor: "uniform", seed: 1, r });
  const [x, target] = [noise(EXAMPLES * width, "x"), noise(EXAMPLES * width, "target")];
  const dims = [EXAMPLES, ...shape];
  const feeds = { x: new ort.Tensor("float32", x, dims), target: new ort.Tensor("float32", target, dims) };

  // loss = mean over an example's entries of (s·x − target)²
  const expected = new Float64Array(EXAMPLES * count);
  x.forEach((entry, at) => {
    const channel = (Math.floor(at / positions) % CHANNELS) % count;
    const place = Math.floor(at / width) * count + channel;
    const slope = (2 * ((s[channel] ?? 0) * entry - (target[at] ?? 0))) / width;
    expected[place] = (expected[place] ?? 0) + slope * entry;
  });
  const { gradient } = await (await runner(compiled.graph))(feeds);
  expect(relativeError(gradient, expected)).toBeLessThan(1e-5);
});
