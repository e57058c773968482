/** Composite operators rewritten as simpler ones when a model is read, so that their gradients follow from those. */

import { attention, rotaryEmbedding } from "./attention.ts";
import { floorQuotient, productOf, times } from "./dims.ts";
import { ELEMENT, integer, type Node, real, text, type Value, where } from "./graph.ts";
import { gridSample } from "./grid-sample.ts";
import { normalAxis } from "./infer/context.ts";
import { windowOf } from "./infer/products.ts";
import { operand } from "./operand.ts";
import type { Operators } from "./operators.ts";
import { RECURRENT } from "./recurrent.ts";

type Decomposition = (b: Operators, node: Node) => Value | Value[];

/** A value per channel as [C, 1, …], to go with [B, C, …]. */
const perChannel = (b: Operators, value: Value, rank: number): Value =>
  b.reshape(value, [...value.shape, ...Array.from({ length: rank - 2 }, () => 1)]);

/** At inference: x·s + t with s = scale/√(variance + ε), t = shift − mean·s. */
function batchNormalisation(b: Operators, node: Node): Value {
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
function standardised(b: Operators, x: Value, axes: number[], epsilon: number): Value {
  const mean = (v: Value) => b.op("ReduceMean", [v, b.ints(axes)], { keepdims: 1 });
  const centred = b.sub(x, mean(x));
  return b.div(centred, b.op("Sqrt", [b.shifted(mean(b.mul(centred, centred)), epsilon)]));
}

function instanceNormalisation(b: Operators, node: Node): Value {
  const x = operand(b, node, 0);
  const rank = x.shape.length;
  const axes = x.shape.flatMap((_, axis) => (axis < 2 ? [] : [axis]));
  const normal = standardised(b, x, axes, real(node, "epsilon", 1e-5));
  return b.add(b.mul(normal, perChannel(b, operand(b, node, 1), rank)), perChannel(b, operand(b, node, 2), rank));
}

/** Scale and shift are per group in operator sets before 21, per channel since. */
function groupNormalisation(b: Operators, node: Node): Value {
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
function depthToSpace(b: Operators, node: Node): Value {
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
function spaceToDepth(b: Operators, node: Node): Value {
  const x = operand(b, node, 0);
  const s = integer(node, "blocksize", 1);
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  const [h, w] = [floorQuotient(height, s), floorQuotient(width, s)];
  const split = b.transpose(b.reshape(x, [batch, channels, h, s, w, s]), [0, 3, 5, 1, 2, 4]);
  return b.reshape(split, [batch, times(channels, s * s), h, w]);
}

/** [B, C·k, L] → [B, C, H, W], patches added where they lie: a transposed convolution whose kernel puts each entry in its place. */
function col2Im(b: Operators, node: Node): Value {
  const x = operand(b, node, 0);
  const [image, block] = [1, 2].map((index) => b.contents(operand(b, node, index))?.map(Number));
  const [batch = 1, rows = 1] = x.shape;
  if (!image || !block || typeof rows !== "number") {
    throw new Error(
      `${where(node)}: expected a fixed image and patch size, got computed ones; export with fixed sizes`,
    );
  }
  const { strides, dilations, pads } = windowOf(node, image, block);
  const spans = block.map((extent, k) => (dilations[k] ?? 1) * (extent - 1) + 1);
  const around = pads.map(([before, after]) => Number(before) + Number(after));
  const counts = image.map((extent, k) =>
    Math.floor((extent + (around[k] ?? 0) - (spans[k] ?? 1)) / (strides[k] ?? 1) + 1),
  );
  const reached = counts.map((count, k) => (count - 1) * (strides[k] ?? 1) + (spans[k] ?? 1) - (around[k] ?? 0));
  const entries = block.reduce((product, extent) => product * extent, 1);
  const kernel = Array.from({ length: rows * entries }, (_, at) =>
    Number(at % entries === Math.floor(at / entries) % entries),
  );
  const attributes = {
    group: rows / entries,
    strides,
    dilations,
    pads: [0, 1].flatMap((side) => pads.map((pair) => Number(pair[side]))),
    output_padding: image.map((extent, k) => extent - (reached[k] ?? 0)),
  };
  const weight = b.cast(b.constant(ELEMENT.float32, [rows, 1, ...block], kernel), x.type);
  return b.op("ConvTranspose", [b.reshape(x, [batch, rows, ...counts]), weight], attributes);
}

/** A Pad of named axes as one of all axes (see the builder's `pad`). */
function padOfAxes(b: Operators, node: Node): Value {
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
  RotaryEmbedding: rotaryEmbedding,
  Col2Im: col2Im,
  Pad: padOfAxes,
  GridSample: gridSample,
  ...RECURRENT,
};

/** Adds what a composite node stands for, under its outputs' names; false if the node is not composite. */
export function decompose(b: Operators, node: Node): boolean {
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
