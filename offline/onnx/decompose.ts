/** Composite operators rewritten as simpler ones when a model is read, so that their gradients follow from those. */
import type { Builder } from "./builder.ts";
import { floorQuotient, productOf, times } from "./dims.ts";
import { ELEMENT, integer, type Node, real, text, type Value, where } from "./graph.ts";
import { gridSample } from "./grid-sample.ts";
import { normalAxis } from "./infer/context.ts";
import { RECURRENT } from "./recurrent.ts";

type Decomposition = (b: Builder, node: Node) => Value | Value[];

function operand(b: Builder, node: Node, index: number): Value {
  const name = node.inputs[index];
  if (!name)
    throw new Error(`${where(node)}: expected an input at position ${index}, got none; export the model again`);
  return b.value(name);
}

/** A value per channel as [C, 1, …], to go with [B, C, …]. */
const perChannel = (b: Builder, value: Value, rank: number): Value =>
  b.reshape(value, [...value.shape, ...Array.from({ length: rank - 2 }, () => 1)]);

/** At inference: x·s + t with s = scale/√(variance + ε), t = shift − mean·s. */
function batchNormalisation(b: Builder, node: Node): Value {
  if (integer(node, "training_mode", 0) === 1) {
    throw new Error(
      `${where(node)}: batch normalisation in training mode combines values of different examples; export the model in eval mode`,
    );
  }
  const [x, scale, shift, mean, variance] = [0, 1, 2, 3, 4].map((index) => operand(b, node, index));
  if (!x || !scale || !shift || !mean || !variance)
    throw new Error(`${where(node)}: expected five inputs, got fewer; export the model again`);
  const deviation = b.op("Sqrt", [b.shifted(variance, real(node, "epsilon", 1e-5))]);
  const s = b.div(scale, deviation);
  const t = b.sub(shift, b.mul(mean, s));
  const rank = x.shape.length;
  return b.add(b.mul(x, perChannel(b, s, rank)), perChannel(b, t, rank));
}

/** (x − mean)/σ over `axes`. */
function standardised(b: Builder, x: Value, axes: number[], epsilon: number): Value {
  const mean = (v: Value) => b.op("ReduceMean", [v, b.ints(axes)], { keepdims: 1 });
  const centred = b.sub(x, mean(x));
  return b.div(centred, b.op("Sqrt", [b.shifted(mean(b.mul(centred, centred)), epsilon)]));
}

function instanceNormalisation(b: Builder, node: Node): Value {
  const x = operand(b, node, 0);
  const rank = x.shape.length;
  const axes = x.shape.flatMap((_, axis) => (axis < 2 ? [] : [axis]));
  const normal = standardised(b, x, axes, real(node, "epsilon", 1e-5));
  return b.add(b.mul(normal, perChannel(b, operand(b, node, 1), rank)), perChannel(b, operand(b, node, 2), rank));
}

/** Scale and shift are per group in operator sets before 21, per channel since. */
function groupNormalisation(b: Builder, node: Node): Value {
  const x = operand(b, node, 0);
  const rank = x.shape.length;
  const groups = integer(node, "num_groups", 1);
  const channels = Number(x.shape[1]);
  const split = b.reshape(x, [x.shape[0] ?? 1, groups, productOf([channels / groups, ...x.shape.slice(2)])]);
  const normal = b.reshape(standardised(b, split, [2], real(node, "epsilon", 1e-5)), x.shape);
  const widened = (value: Value) => {
    if (value.shape[0] === channels) return perChannel(b, value, rank);
    const repeated = b.op("Expand", [b.reshape(value, [groups, 1]), b.ints([groups, channels / groups])]);
    return perChannel(b, b.reshape(repeated, [channels]), rank);
  };
  return b.add(b.mul(normal, widened(operand(b, node, 1))), widened(operand(b, node, 2)));
}

/** [B, c·s², H, W] → [B, c, sH, sW]; in mode DCR the s² come before the channels. */
function depthToSpace(b: Builder, node: Node): Value {
  const x = operand(b, node, 0);
  const s = integer(node, "blocksize", 1);
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const c = Number(channels) / (s * s);
  const deepFirst = text(node, "mode", "DCR") === "DCR";
  const split = b.reshape(x, deepFirst ? [batch, s, s, c, height, width] : [batch, c, s, s, height, width]);
  const moved = b.transpose(split, deepFirst ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3]);
  return b.reshape(moved, [batch, c, times(height, s), times(width, s)]);
}

/** [B, C, sH, sW] → [B, s²·C, H, W]. */
function spaceToDepth(b: Builder, node: Node): Value {
  const x = operand(b, node, 0);
  const s = integer(node, "blocksize", 1);
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const [h, w] = [floorQuotient(height, s), floorQuotient(width, s)];
  const split = b.transpose(b.reshape(x, [batch, channels, h, s, w, s]), [0, 3, 5, 1, 2, 4]);
  return b.reshape(split, [batch, times(channels, s * s), h, w]);
}

/** softmax(scale·Q·Kᵀ + mask)·V over heads [B, H, T, E]; inputs of rank 3 hold their heads side by side. */
function attention(b: Builder, node: Node): Value {
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

/** A Pad of named axes as one of all axes (see the builder's `pad`). */
function padOfAxes(b: Builder, node: Node): Value {
  const x = operand(b, node, 0);
  const named = b.contents(operand(b, node, 3));
  const amounts = operand(b, node, 1);
  if (!named) throw new Error(`${where(node)}: expected constant axes, got computed ones; export with fixed axes`);
  const axes = named.map((axis) => normalAxis(Number(axis), x.shape.length));
  const all = ["before", "after"].flatMap((_, side) =>
    x.shape.map((_, axis) => {
      const at = axes.indexOf(axis);
      return at < 0 ? b.ints([0]) : b.op("Gather", [amounts, b.ints([at + side * axes.length])]);
    }),
  );
  const known = b.contents(amounts);
  const full = known
    ? b.ints(
        [0, 1].flatMap((side) =>
          x.shape.map((_, axis) => Number(axes.includes(axis) ? known[axes.indexOf(axis) + side * axes.length] : 0)),
        ),
      )
    : b.concat(all, 0);
  const fill = node.inputs[2] ? operand(b, node, 2) : b.scalar(0, x);
  return b.op("Pad", [x, full, fill], node.attributes);
}

const TABLE: Record<string, Decomposition> = {
  BatchNormalization: batchNormalisation,
  InstanceNormalization: instanceNormalisation,
  GroupNormalization: groupNormalisation,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  Attention: attention,
  Pad: padOfAxes,
  GridSample: gridSample,
  ...RECURRENT,
};

/** Adds what a composite node stands for, under its outputs' names; false if the node is not composite. */
export function decompose(b: Builder, node: Node): boolean {
  const rule = node.domain === "" ? TABLE[node.op] : undefined;
  if (!rule || (node.op === "Pad" && !node.inputs[3])) return false;
  b.within(node.name || node.outputs[0] || node.op);
  const results = [rule(b, node)].flat();
  b.within("");
  node.outputs.forEach((output, index) => {
    const result = results[index];
    if (!output || !result) return;
    const name = index === 0 ? node.name : output;
    b.append({ name, op: "Identity", domain: "", inputs: [result.name], outputs: [output], attributes: {} });
  });
  return true;
}
