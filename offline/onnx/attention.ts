/** Attention and rotary positions, operators of set 23, by simpler ones. */

import { floorQuotient, times } from "./dims.ts";
import { ELEMENT, integer, type Node, real, type Value, where } from "./graph.ts";
import { operand } from "./operand.ts";
import type { Operators } from "./operators.ts";

/** softmax(scale·Q·Kᵀ + mask)·V over heads [B, H, T, E]; inputs of rank 3 hold their heads side by side. */
export function attention(b: Operators, node: Node): Value {
  if (node.outputs.slice(1).some(Boolean) || node.inputs.slice(4).some(Boolean)) {
    throw new Error(
      `${where(node)}: expected attention without a cache or further outputs, got some; export without past keys`,
    );
  }
  const heads = (index: number, attribute: string) => {
    const x = operand(b, node, index);
    if (x.shape.length === 4) return x;
    const [batch = 1, length = 1, width = 1] = x.shape;
    const count = integer(node, attribute, 1);
    return b.transpose(b.reshape(x, [batch, length, count, floorQuotient(width, count)]), [0, 2, 1, 3]);
  };
  const query = heads(0, "q_num_heads");
  const [batch = 1, queryHeads = 1, length = 1, size = 1] = query.shape;
  const grouped = (x: Value) => {
    const [, own = 1, positions = 1, width = 1] = x.shape;
    if (own === queryHeads) return x;
    const copies = Number(queryHeads) / Number(own);
    const repeated = b.op("Expand", [
      b.reshape(x, [batch, own, 1, positions, width]),
      b.shape([batch, own, copies, positions, width]),
    ]);
    return b.reshape(repeated, [batch, queryHeads, positions, width]);
  };
  const [key, value] = [grouped(heads(1, "kv_num_heads")), grouped(heads(2, "kv_num_heads"))];
  const keys = key.shape[2] ?? 1;
  let scores = b.scaled(
    b.op("MatMul", [query, b.transpose(key, [0, 1, 3, 2])]),
    real(node, "scale", 1 / Math.sqrt(Number(size))),
  );
  const cap = real(node, "softcap", 0);
  if (cap > 0) scores = b.scaled(b.op("Tanh", [b.scaled(scores, 1 / cap)]), cap);
  const least = b.scalar(-1e30, scores);
  if (integer(node, "is_causal", 0) === 1) {
    const allowed = b.op("Trilu", [b.op("Expand", [b.constant(ELEMENT.float32, [], [1]), b.shape([length, keys])])], {
      upper: 0,
    });
    scores = b.where(b.cast(allowed, ELEMENT.bool), scores, least);
  }
  if (node.inputs[3]) {
    const mask = operand(b, node, 3);
    scores = mask.type === ELEMENT.bool ? b.where(mask, scores, least) : b.add(scores, mask);
  }
  const mixed = b.op("MatMul", [b.op("Softmax", [scores], { axis: -1 }), value]);
  if (operand(b, node, 0).shape.length === 4) return mixed;
  return b.reshape(b.transpose(mixed, [0, 2, 1, 3]), [batch, length, times(queryHeads, value.shape[3] ?? 1)]);
}

/**
 * Pairs of entries turned by an angle each: (x₁·cos − x₂·sin, x₁·sin + x₂·cos). The pairs are the two halves of a head, or its
 * neighbours where `interleaved`; entries past `rotary_embedding_dim` stay as they are.
 */
export function rotaryEmbedding(b: Operators, node: Node): Value {
  const given = operand(b, node, 0);
  const flat = given.shape.length === 3;
  const [batch = 1, length = 1, width = 1] = given.shape;
  const count = integer(node, "num_heads", 0);
  if (flat && count === 0) {
    throw new Error(`${where(node)}: expected num_heads with an input of rank 3, got none; export the model again`);
  }
  const heads = flat
    ? b.transpose(b.reshape(given, [batch, length, count, floorQuotient(width, count)]), [0, 2, 1, 3])
    : given;
  const size = Number(heads.shape[3]);
  const turned = integer(node, "rotary_embedding_dim", 0) || size;
  const half = turned / 2;
  const neighbours = integer(node, "interleaved", 0) === 1;

  // [B or 1, T, half] → [B or 1, 1, T, half]
  const angle = (index: number) => {
    const cache = operand(b, node, index);
    const own = node.inputs[3] ? b.op("Gather", [cache, operand(b, node, 3)], { axis: 0 }) : cache;
    return b.reshape(own, [...own.shape.slice(0, 1), 1, ...own.shape.slice(1)]);
  };
  const [cos, sin] = [angle(1), angle(2)];
  const part = (start: number, end: number, step = 1) =>
    start === 0 && end === size && step === 1 ? heads : b.slice(heads, [{ axis: 3, start, end, step }]);
  const [x1, x2] = neighbours ? [part(0, turned, 2), part(1, turned, 2)] : [part(0, half), part(half, turned)];
  const pair = [b.sub(b.mul(x1, cos), b.mul(x2, sin)), b.add(b.mul(x1, sin), b.mul(x2, cos))];
  const [rows = 1, own = 1, positions = 1] = heads.shape;
  const column = (v: Value) => b.reshape(v, [rows, own, positions, half, 1]);
  const rotated = neighbours
    ? b.reshape(b.concat(pair.map(column), 4), [rows, own, positions, turned])
    : b.concat(pair, 3);
  const all = turned === size ? rotated : b.concat([rotated, part(turned, size)], 3);
  return flat ? b.reshape(b.transpose(all, [0, 2, 1, 3]), given.shape) : all;
}
