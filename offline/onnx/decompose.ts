/** Composite operators rewritten as simpler ones when a model is read, so that their gradients follow from those. */
import type { Builder } from "./builder.ts";
import { productOf } from "./dims.ts";
import { integer, type Node, real, type Value, where } from "./graph.ts";

type Decomposition = (b: Builder, node: Node) => Value;

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

const TABLE: Record<string, Decomposition> = {
  BatchNormalization: batchNormalisation,
  InstanceNormalization: instanceNormalisation,
  GroupNormalization: groupNormalisation,
};

/** Adds what a composite node stands for, under its output's name; false if the node is not composite. */
export function decompose(b: Builder, node: Node): boolean {
  const rule = node.domain === "" ? TABLE[node.op] : undefined;
  const [output] = node.outputs;
  if (!rule || !output) return false;
  b.within(node.name || output);
  const result = rule(b, node);
  b.within("");
  b.append({ name: node.name, op: "Identity", domain: "", inputs: [result.name], outputs: [output], attributes: {} });
  return true;
}
