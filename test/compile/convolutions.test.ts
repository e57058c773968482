/** Convolutions: kept entries, gathered by line or by position, are the sums of products that define them, in float64. */
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
const numberOf = (extents: readonly number[]) => extents.reduce((a, b) => a * b, 1);
const unravel = (at: number, extents: readonly number[]) =>
  extents.map((extent, k) => Math.floor(at / numberOf(extents.slice(k + 1))) % extent);

interface Form {
  image: number[];
  kernel: number[];
  strides?: number[];
  dilations?: number[];
  pads?: number[];
  group?: number;
  /** Kept entries, 600 if none is given. */
  r?: number;
}
const forms: Form[] = [
  { image: [6, 34], kernel: [3, 3], pads: [1, 1, 1, 1] },
  { image: [7, 70], kernel: [3, 4], strides: [2, 2], pads: [0, 1, 2, 0] },
  { image: [7, 40], kernel: [2, 3], dilations: [3, 2] },
  { image: [5, 33], kernel: [3, 2], group: 2, strides: [2, 1] },
  { image: [90], kernel: [9], strides: [2] },
  { image: [60], kernel: [13], dilations: [2], pads: [3, 8] },
  { image: [34, 9], kernel: [3, 2], pads: [1, 0, 1, 1] },
  { image: [4, 20], kernel: [3, 3], r: 2500 },
  { image: [5, 4], kernel: [3, 3], pads: [1, 1, 1, 1] },
  { image: [9, 11], kernel: [3, 4], strides: [2, 3], dilations: [2, 1], pads: [0, 1, 2, 3] },
  { image: [7, 6], kernel: [3, 2], group: 4, pads: [2, 0, 0, 1] },
  { image: [11], kernel: [7], pads: [3, 2] },
];

/** For one example, the entry at a position of the weight: Σ over positions of δ[o] · image[c] under the kernel offset. In float64. */
function oracle(form: Form, x: Float32Array, weight: Float32Array, target: number) {
  const { image, kernel, group = 1 } = form;
  const rank = image.length;
  const strides = form.strides ?? image.map(() => 1);
  const dilations = form.dilations ?? image.map(() => 1);
  const pads = form.pads ?? image.flatMap(() => [0, 0]);
  const out = image.map((extent, k) => {
    const span = (dilations[k] ?? 1) * ((kernel[k] ?? 1) - 1) + 1;
    return Math.floor((extent + (pads[k] ?? 0) + (pads[k + rank] ?? 0) - span) / (strides[k] ?? 1)) + 1;
  });
  const [area, spots, size, inputs] = [image, out, kernel, [CHANNELS / group]].map(numberOf) as [
    number,
    number,
    number,
    number,
  ];
  /** Where in an image a position of the output lies under a kernel offset, −1 for outside. */
  const places = Array.from({ length: size * spots }, (_, at) => {
    const [offset, spot] = [unravel(Math.floor(at / spots), kernel), unravel(at % spots, out)];
    const index = spot.map((p, k) => p * (strides[k] ?? 1) + (offset[k] ?? 0) * (dilations[k] ?? 1) - (pads[k] ?? 0));
    const inside = index.every((i, k) => i >= 0 && i < (image[k] ?? 0));
    return inside ? index.reduce((sum, i, k) => sum * (image[k] ?? 1) + i, 0) : -1;
  });
  const channelOf = (output: number, input: number) => Math.floor(output / (OUTPUTS / group)) * inputs + input;
  const bent = new Float64Array(OUTPUTS * spots);
  for (let o = 0; o < OUTPUTS; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let k = 0; k < size; k++) {
        const w = weight[(o * inputs + i) * size + k] ?? 0;
        for (let p = 0; p < spots; p++) {
          const place = places[k * spots + p] ?? -1;
          if (place >= 0) bent[o * spots + p] += w * (x[channelOf(o, i) * area + place] ?? 0);
        }
      }
    }
  }
  bent.forEach((h, at) => {
    bent[at] = Math.tanh(h);
  });
  const y = bent.reduce((sum, t) => sum + t, 0) / bent.length;
  // loss = (y − target)², y the mean of tanh(h).
  const delta = bent.map((t) => (2 * (y - target) * (1 - t * t)) / bent.length);
  return (entry: number): number => {
    const [o, i, k] = unravel(entry, [OUTPUTS, inputs, size]) as [number, number, number];
    let sum = 0;
    for (let p = 0; p < spots; p++) {
      const place = places[k * spots + p] ?? -1;
      if (place >= 0) sum += (delta[o * spots + p] ?? 0) * (x[channelOf(o, i) * area + place] ?? 0);
    }
    return sum;
  };
}

test.each(forms)("%j", async (form) => {
  const { image, kernel, group = 1, r = 600, ...windows } = form;
  const shape = [OUTPUTS, CHANNELS / group, ...kernel];
  const weight = noise(numberOf(shape), "weight").map((w) => w / Math.sqrt(CHANNELS));
  const attributes: Record<string, Attribute> = { group, ...windows };
  const graph: Graph = {
    inputs: [{ name: "x", type: ELEMENT.float32, shape: ["batch", CHANNELS, ...image] }],
    outputs: [{ name: "y", type: ELEMENT.float32, shape: ["batch", 1] }],
    initializers: new Map([
      ["conv.weight", tensorOf(ELEMENT.float32, shape, weight)],
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
  const compiled = await compileGradient(path, { ...options, r: { perLayer: r } });
  const kept = Array.from(compiled.mask[0]?.kept ?? []);
  const { gradients } = differentiate(await readModel(path), path, options);
  expect(gradients.get("conv.weight")?.plan(kept).kind).toBe("taps");

  const size = CHANNELS * numberOf(image);
  const [x, targets] = [noise(EXAMPLES * size, "x"), noise(EXAMPLES, "target")];
  const { gradient } = await (await runner(compiled.graph))({
    x: new ort.Tensor("float32", x, [EXAMPLES, CHANNELS, ...image]),
    target: new ort.Tensor("float32", targets, [EXAMPLES, 1]),
  });
  const expected = Array.from(targets, (target, row) =>
    kept.map(oracle(form, x.subarray(row * size, (row + 1) * size), weight, target)),
  ).flat();
  expect(relativeError(gradient, expected)).toBeLessThan(1e-5);
});
