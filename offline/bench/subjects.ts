/** The models on which compiling is measured, with a batch of examples for each. */
import * as ort from "onnxruntime-node";
import type { CompileOptions } from "../compile/compile.ts";
import { gpt2, resnet9 } from "./models.ts";

export type Feeds = Record<string, ort.Tensor>;

export interface Subject {
  name: string;
  model(): Uint8Array;
  loss: CompileOptions["loss"];
  feeds: Feeds;
  target: ort.Tensor;
  batch: number;
  /** The most that collecting may take, in forward passes. */
  goal: number;
  /** Whether to compare with forming each example's whole gradient of a layer first. */
  whole: boolean;
}

export function subjects(): Subject[] {
  const [batch, length, vocabulary] = [8, 128, 2048];
  const ids = BigInt64Array.from({ length: batch * length }, (_, at) => BigInt((at * 7919) % vocabulary));
  const images = 16;
  const pixels = Float32Array.from({ length: images * 3 * 32 * 32 }, (_, at) => Math.sin(at));
  return [
    {
      name: "GPT-2-like (d = 11 M, 128 tokens)",
      model: () => gpt2({ layers: 6, width: 384, heads: 6, vocabulary, length }),
      loss: "next-token",
      feeds: { input_ids: new ort.Tensor("int64", ids, [batch, length]) },
      target: new ort.Tensor("int64", ids, [batch, length]),
      batch,
      goal: 3.0,
      whole: true,
    },
    {
      name: "ResNet-9 (d = 6.6 M, 32 × 32)",
      model: () => resnet9(64),
      loss: "cross-entropy",
      feeds: { image: new ort.Tensor("float32", pixels, [images, 3, 32, 32]) },
      target: new ort.Tensor(
        "int64",
        BigInt64Array.from({ length: images }, (_, at) => BigInt(at % 10)),
        [images],
      ),
      batch: images,
      goal: 3.5,
      whole: false,
    },
  ];
}
