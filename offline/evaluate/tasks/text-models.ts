/** Models of text: input `ids` [batch, length], token 0 being padding. */
import { ELEMENT, type Port, type Value } from "../../onnx/graph.ts";
import { type Draft, dense, draft, finished } from "./model.ts";

const ids = (length: number): Port => ({ name: "ids", type: ELEMENT.int64, shape: ["batch", length] });

/** Embedding, a convolution over five positions, the maximum over positions, two classes: gradients that are mostly zero. */
export function wordConvolution(vocabulary: number, length: number, width: number, seed: number | string): Uint8Array {
  const model = draft([ids(length)], seed);
  const { b, weight } = model;
  const seen = b.op("Gather", [weight("embedding.weight", [vocabulary, width], 0.3), b.value("ids")]);
  const kernel = weight("conv.weight", [width, width, 5], Math.sqrt(2 / (5 * width)));
  const x = b.op("Conv", [b.transpose(seen, [0, 2, 1]), kernel, weight("conv.bias", [width], 0)], {
    kernel_shape: [5],
    pads: [2, 2],
  });
  const pooled = b.op("ReduceMax", [b.op("Relu", [x]), b.ints([2])], { keepdims: 0 });
  return finished(model, dense(model, pooled, "head", width, 2));
}

export interface TransformerSize {
  layers: number;
  width: number;
  heads: number;
  vocabulary: number;
  length: number;
  /** Rank of the adapters beside every attention weight (arXiv 2106.09685); 0: none. */
  rank: number;
}

/** GPT-2's decoder, pre-normalised. Its last states: [batch, length, width]. */
function decoder(model: Draft, { layers, width, heads, vocabulary, length, rank }: TransformerSize): Value {
  const { b, weight } = model;
  const linear = (x: Value, name: string, from: number, to: number, adapted: boolean): Value => {
    const flat = b.reshape(x, [-1, from]);
    let y = b.op("Gemm", [
      flat,
      weight(`${name}.weight`, [from, to], 1 / Math.sqrt(from)),
      weight(`${name}.bias`, [to], 0),
    ]);
    if (adapted && rank > 0) {
      // W x + B A x, B zero at first: the fine-tuned model starts as the pre-trained one.
      const down = b.op("MatMul", [flat, weight(`${name}.lora_a.weight`, [from, rank], 1 / Math.sqrt(from))]);
      y = b.add(y, b.op("MatMul", [down, weight(`${name}.lora_b.weight`, [rank, to], 0)]));
    }
    return b.reshape(y, ["batch", length, to]);
  };
  const norm = (x: Value, name: string) =>
    b.op("LayerNormalization", [x, weight(`${name}.weight`, [width], 0, 1), weight(`${name}.bias`, [width], 0)], {
      axis: -1,
    });
  const size = width / heads;
  const visible = Array.from({ length: length * length }, (_, at) => Number(at % length <= Math.floor(at / length)));
  const causal = b.constant(ELEMENT.bool, [length, length], visible);
  const places = b.reshape(weight("wpe.weight", [length, width], 0.1), [1, length, width]);
  let x = b.add(b.op("Gather", [weight("wte.weight", [vocabulary, width], 0.1), b.value("ids")]), places);
  for (let layer = 0; layer < layers; layer++) {
    const name = `h.${layer}`;
    const qkv = linear(norm(x, `${name}.ln_1`), `${name}.attention`, width, 3 * width, true);
    const [query, key, value] = b
      .ops("Split", [qkv, b.ints([width, width, width])], 3, { axis: 2 })
      .map((part) => b.transpose(b.reshape(part, ["batch", length, heads, size]), [0, 2, 1, 3]));
    if (!query || !key || !value) throw new Error("attention: expected three parts");
    const scores = b.scaled(b.op("MatMul", [query, b.transpose(key, [0, 1, 3, 2])]), 1 / Math.sqrt(size));
    const shares = b.op("Softmax", [b.where(causal, scores, b.scalar(-1e9, scores))], { axis: -1 });
    const mixed = b.transpose(b.op("MatMul", [shares, value]), [0, 2, 1, 3]);
    x = b.add(x, linear(b.reshape(mixed, ["batch", length, width]), `${name}.projection`, width, width, true));
    const up = linear(norm(x, `${name}.ln_2`), `${name}.up`, width, 4 * width, false);
    const half = b.scaled(b.mul(up, b.shifted(b.op("Erf", [b.scaled(up, Math.SQRT1_2)]), 1)), 0.5);
    x = b.add(x, linear(half, `${name}.down`, 4 * width, width, false));
  }
  return norm(x, "ln_f");
}

/** Next-token logits [batch, length, vocabulary], the output weight of its own. */
export function languageModel(size: TransformerSize, seed: number | string): Uint8Array {
  const model = draft([ids(size.length)], seed);
  const { width, vocabulary } = size;
  const states = decoder(model, size);
  const head = model.weight("unembedding.weight", [width, vocabulary], 1 / Math.sqrt(width));
  return finished(model, model.b.op("MatMul", [states, head]));
}

/** The same decoder, its states averaged over the positions, and two classes: its decoder's weights have the same names. */
export function textClassifier(size: TransformerSize, seed: number | string): Uint8Array {
  const model = draft([ids(size.length)], seed);
  const states = decoder(model, size);
  const mean = model.b.op("ReduceMean", [states, model.b.ints([1])], { keepdims: 0 });
  return finished(model, dense(model, mean, "head", size.width, 2));
}
