/** Untrained models, written as PyTorch's exporter writes them, from a seed. */
import { random } from "../../../src/core/random.ts";
import { type Builder, createBuilder } from "../../onnx/builder.ts";
import { ELEMENT, type Graph, type Port, type Value } from "../../onnx/graph.ts";
import { writeModel } from "../../onnx/model.ts";
import { tensorOf } from "../../onnx/tensor.ts";

const OPSET = 18;

export interface Draft {
  b: Builder;
  /** A parameter with normal entries of the given standard deviation around `mean`. */
  weight(name: string, shape: number[], deviation: number, mean?: number): Value;
}

export function draft(inputs: Port[], seed: number | string): Draft {
  const graph: Graph = { inputs, outputs: [], initializers: new Map(), nodes: [], opset: OPSET, irVersion: 10 };
  const b = createBuilder(graph, "batch");
  return {
    b,
    weight: (name, shape, deviation, mean = 0) => {
      const { normal } = random(seed, `weight/${name}`);
      const size = shape.reduce((product, extent) => product * extent, 1);
      const entries = Float32Array.from({ length: size }, () => mean + (deviation > 0 ? deviation * normal() : 0));
      b.initializers.set(name, tensorOf(ELEMENT.float32, shape, entries));
      return b.value(name);
    },
  };
}

/** The bytes of a model whose one output is named `logits`. */
export function finished({ b }: Pick<Draft, "b">, logits: Value): Uint8Array {
  b.append({ name: "logits", op: "Identity", domain: "", inputs: [logits.name], outputs: ["logits"], attributes: {} });
  const { name, type, shape } = b.value("logits");
  return writeModel({
    inputs: b.inputs,
    outputs: [{ name, type, shape }],
    initializers: b.initializers,
    nodes: b.nodes,
    opset: OPSET,
    irVersion: 10,
  });
}

/** y = x Wᵀ + b, W [to, from] (He's initialisation). */
export function dense({ b, weight }: Draft, x: Value, name: string, from: number, to: number): Value {
  const w = weight(`${name}.weight`, [to, from], Math.sqrt(2 / from));
  return b.op("Gemm", [x, w, weight(`${name}.bias`, [to], 0)], { transB: 1 });
}

/** A 3 × 3 convolution that keeps the image's size. */
export function convolution({ b, weight }: Draft, x: Value, name: string, from: number, to: number): Value {
  const w = weight(`${name}.weight`, [to, from, 3, 3], Math.sqrt(2 / (9 * from)));
  return b.op("Conv", [x, w, weight(`${name}.bias`, [to], 0)], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
}
