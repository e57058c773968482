/** What both walks backwards share: that to per-example gradients (./backward.ts) and that to a batch's (../train/backward.ts). */
import type { Builder } from "../onnx/builder.ts";
import { isFloat, type Node, type Value, where } from "../onnx/graph.ts";
import type { Rule, RuleContext } from "./rule.ts";
import { RULES } from "./rules.ts";

/** Names of the floating-point values that depend on one of the chosen parameters. */
export function dependents(b: Builder, parameters: ReadonlySet<string>): Set<string> {
  const found = new Set(parameters);
  const real = (name: string) => name !== "" && isFloat(b.value(name).type);
  for (const node of b.nodes) {
    const operands = node.op === "CastLike" ? node.inputs.slice(0, 1) : node.inputs;
    if (!operands.some((name) => found.has(name))) continue;
    for (const output of node.outputs) if (real(output)) found.add(output);
  }
  return found;
}

/** Names of the values that the named ones are computed from, and the names themselves. */
export function ancestors(nodes: readonly Node[], names: Iterable<string>): Set<string> {
  const found = new Set(names);
  for (const node of nodes.toReversed()) {
    if (node.outputs.some((name) => found.has(name))) for (const input of node.inputs) found.add(input);
  }
  found.delete("");
  return found;
}

/** The operator's rule. Throws, naming the node, if there is none. */
export function ruleOf(node: Node): Rule {
  const rule = RULES.get(node.op);
  if (rule) return rule;
  throw new Error(
    `${where(node)}: no gradient rule for operator ${node.op}; supported: ${[...RULES.keys()].sort().join(", ")}`,
  );
}

/** A value's cotangent is the sum of what its uses give. */
export function addCotangent(b: Builder, cotangents: Map<string, Value>, name: string, gradient: Value): void {
  const before = cotangents.get(name);
  cotangents.set(name, before ? b.add(before, gradient) : gradient);
}

/** Sums over the axes along which the operand was repeated. */
export function unbroadcast(b: Builder, gradient: Value, operand: Value): Value {
  const lead = gradient.shape.length - operand.shape.length;
  const axes = gradient.shape.flatMap((dim, axis) =>
    axis < lead || (operand.shape[axis - lead] === 1 && dim !== 1) ? [axis] : [],
  );
  return b.reshape(b.sum(gradient, axes, true), operand.shape);
}

/** What the rule of a node is given. */
export function contextOf(b: Builder, node: Node, cotangents: ReadonlyMap<string, Value>): RuleContext {
  const outputs = node.outputs.map((name) => b.value(name));
  const ds = node.outputs.map((name) => cotangents.get(name) ?? null);
  const [first] = outputs;
  const optional = (index: number) => {
    const name = node.inputs[index];
    return name ? b.value(name) : null;
  };
  const x = (index: number) => {
    const value = optional(index);
    if (!value)
      throw new Error(`${where(node)}: expected an input at position ${index}, got none; export the model again`);
    return value;
  };
  if (!first) throw new Error(`${where(node)}: expected an output, got none; export the model again`);
  return {
    b,
    node,
    x,
    optional,
    y: outputs,
    d: ds[0] ?? first,
    ds,
    constant: (index) => {
      const value = optional(index);
      const found = value ? b.contents(value) : null;
      return found?.every((entry) => typeof entry === "number") ? found : null;
    },
  };
}
