/** Models of a size worth measuring, written here as PyTorch's exporter writes them, with random weights. */
import { random } from "../../src/core/random.ts";
import { finished } from "../evaluate/tasks/model.ts";
import { createBuilder } from "../onnx/builder.ts";
import { ELEMENT, type Graph, type Port, type Value } from "../onnx/graph.ts";
import { tensorOf } from "../onnx/tensor.ts";

const OPSET = 18;

/** A model under construction: its builder, and a source of named random weights. */
function start(inputs: Port[]) {
  const graph: Graph = { inputs, outputs: [], initializers: new Map(), nodes: [], opset: OPSET, irVersion: 10 };
  const b = createBuilder(graph, "batch");
  const weight = (name: string, shape: number[], scale = 0.02, offset = 0): Value => {
    const generator = random(1, name);
    const size = shape.reduce((a, extent) => a * extent, 1);
    const entries = Float32Array.from({ length: size }, () => offset + scale * (2 * generator.unit() - 1));
    b.initializers.set(name, tensorOf(ELEMENT.float32, shape, entries));
    return b.value(name);
  };
  return { b, weight };
}

export interface Transformer {
  layers: number;
  width: number;
  heads: number;
  vocabulary: number;
  length: number;
}

/** GPT-2: pre-normalised blocks of causal attention and a GELU perceptron, tied embeddings. Input `input_ids` [batch, length]. */
export function gpt2({ layers, width, heads, vocabulary, length }: Transformer): Uint8Array {
  const { b, weight } = start([{ name: "input_ids", type: ELEMENT.int64, shape: ["batch", length] }]);
  const linear = (x: Value, name: string, from: number, to: number): Value => {
    const flat = b.reshape(x, [-1, from]);
    const y = b.op("Gemm", [flat, weight(`${name}.weight`, [from, to]), weight(`${name}.bias`, [to])]);
    return b.reshape(y, ["batch", length, to]);
  };
  const norm = (x: Value, name: string): Value => {
    const scale = weight(`${name}.weight`, [width], 0.1, 1);
    return b.op("LayerNormalization", [x, scale, weight(`${name}.bias`, [width])], { axis: -1 });
  };
  const size = width / heads;
  const visible = Array.from({ length: length * length }, (_, at) => Number(at % length <= Math.floor(at / length)));
  const causal = b.constant(ELEMENT.bool, [length, length], visible);
  const table = weight("wte.weight", [vocabulary, width]);
  const positions = b.reshape(weight("wpe.weight", [length, width]), [1, length, width]);
  let x = b.add(b.op("Gather", [table, b.value("input_ids")]), positions);
  for (let layer = 0; layer < layers; layer++) {
    const name = `h.${layer}`;
    const qkv = linear(norm(x, `${name}.ln_1`), `${name}.attn.c_attn`, width, 3 * width);
    const [query, key, value] = b
      .ops("Split", [qkv, b.ints([width, width, width])], 3, { axis: 2 })
      .map((part) => b.transpose(b.reshape(part, ["batch", length, heads, size]), [0, 2, 1, 3]));
    if (!query || !key || !value) throw new Error("attention: expected three parts");
    const scores = b.scaled(b.op("MatMul", [query, b.transpose(key, [0, 1, 3, 2])]), 1 / Math.sqrt(size));
    const weights = b.op("Softmax", [b.where(causal, scores, b.scalar(-1e9, scores))], { axis: -1 });
    const mixed = b.transpose(b.op("MatMul", [weights, value]), [0, 2, 1, 3]);
    x = b.add(x, linear(b.reshape(mixed, ["batch", length, width]), `${name}.attn.c_proj`, width, width));
    const up = linear(norm(x, `${name}.ln_2`), `${name}.mlp.c_fc`, width, 4 * width);
    const half = b.scaled(b.mul(up, b.shifted(b.op("Erf", [b.scaled(up, Math.SQRT1_2)]), 1)), 0.5);
    x = b.add(x, linear(half, `${name}.mlp.c_proj`, 4 * width, width));
  }
  const logits = b.op("MatMul", [norm(x, "ln_f"), b.transpose(table, [1, 0])]);
  return finished({ b }, logits);
}

/** ResNet-9 as in the paper's CIFAR-10 experiments: eight 3×3 convolutions with batch normalisation. Input `image` [batch, 3, 32, 32]. */
export function resnet9(width: number): Uint8Array {
  const { b, weight } = start([{ name: "image", type: ELEMENT.float32, shape: ["batch", 3, 32, 32] }]);
  const block = (x: Value, name: string, from: number, to: number): Value => {
    const kernel = weight(`${name}.0.weight`, [to, from, 3, 3], Math.sqrt(2 / (from * 9)));
    const y = b.op("Conv", [x, kernel], { pads: [1, 1, 1, 1], kernel_shape: [3, 3] });
    const s = weight(`${name}.1.weight`, [to], 0.1, 1);
    const t = weight(`${name}.1.bias`, [to]);
    const statistics = [weight(`${name}.1.running_mean`, [to]), weight(`${name}.1.running_var`, [to], 0.1, 1)];
    const output = `${name}.norm`;
    b.append({
      name: output,
      op: "BatchNormalization",
      domain: "",
      inputs: [y, s, t, ...statistics].map((value) => value.name),
      outputs: [output],
      attributes: {},
    });
    return b.op("Relu", [b.value(output)]);
  };
  const pool = (x: Value): Value => b.op("MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
  let x = block(b.value("image"), "prep", 3, width);
  x = pool(block(x, "layer1", width, 2 * width));
  x = b.add(x, block(block(x, "residual1.0", 2 * width, 2 * width), "residual1.1", 2 * width, 2 * width));
  x = pool(block(x, "layer2", 2 * width, 4 * width));
  x = pool(block(x, "layer3", 4 * width, 8 * width));
  x = b.add(x, block(block(x, "residual3.0", 8 * width, 8 * width), "residual3.1", 8 * width, 8 * width));
  x = b.op("MaxPool", [x], { kernel_shape: [4, 4], strides: [4, 4] });
  const flat = b.reshape(x, ["batch", 8 * width]);
  const logits = b.op("Gemm", [flat, weight("head.weight", [10, 8 * width]), weight("head.bias", [10])], { transB: 1 });
  return finished({ b }, logits);
}
