/**
 * Reverse mode for training: the gradient of the batch's loss with respect to every chosen parameter, whole and summed over the
 * examples. The operators' rules are those of the compiler (offline/autodiff/rules.ts), which give an operand's gradient whether it
 * is an activation or a weight; those of ./weights.ts come first.
 */
import { dependents } from "../autodiff/backward.ts";
import type { Rule, RuleContext } from "../autodiff/rule.ts";
import { RULES } from "../autodiff/rules.ts";
import type { Builder } from "../onnx/builder.ts";
import { type Node, type Value, where } from "../onnx/graph.ts";
import { convolutionWeight, denseWeight } from "./weights.ts";

/** Gradients of weights that the compiler's table lacks, or has only in a slower form: at input positions. */
const WEIGHTS: Record<string, Rule> = { Conv: convolutionWeight, MatMul: denseWeight };

/**
 * The gradients of the named parameters, each of its parameter's shape, from the cotangents of `seeds` (by value name).
 * Throws, naming node and operator, where an operator on the way has no rule.
 */
export function batchGradients(
  b: Builder,
  seeds: ReadonlyMap<string, Value>,
  parameters: ReadonlySet<string>,
): Map<string, Value> {
  const nodes = [...b.nodes];
  const active = dependents(b, parameters);
  const cotangents = new Map<string, Value>([...seeds].filter(([name]) => active.has(name)));
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((name) => cotangents.has(name))) continue;
    const wanted = node.inputs.flatMap((name, position) => (active.has(name) ? [{ name, position }] : []));
    if (wanted.length === 0) continue;
    const rule = RULES.get(node.op);
    if (!rule) {
      throw new Error(
        `${where(node)}: no gradient rule for operator ${node.op}; supported: ${[...RULES.keys()].sort().join(", ")}`,
      );
    }
    b.within(`gradient of ${node.name || node.outputs[0]}`);
    const context = contextOf(b, node, cotangents);
    for (const { name, position } of wanted) {
      const give = WEIGHTS[node.op]?.(context)[position] ?? rule(context)[position];
      if (!give) continue;
      const gradient = unbroadcast(b, give(), b.value(name));
      const before = cotangents.get(name);
      cotangents.set(name, before ? b.add(before, gradient) : gradient);
    }
  }
  b.within("");
  return new Map(
    [...parameters].flatMap((name) => {
      const found = cotangents.get(name);
      return found ? [[name, found] as const] : [];
    }),
  );
}

/** Sums over the axes along which the operand was repeated. */
function unbroadcast(b: Builder, gradient: Value, operand: Value): Value {
  const lead = gradient.shape.length - operand.shape.length;
  const axes = gradient.shape.flatMap((dim, axis) =>
    axis < lead || (operand.shape[axis - lead] === 1 && dim !== 1) ? [axis] : [],
  );
  return b.reshape(b.sum(gradient, axes, true), operand.shape);
}

function contextOf(b: Builder, node: Node, cotangents: ReadonlyMap<string, Value>): RuleContext {
  const y = node.outputs.map((name) => b.value(name));
  const ds = node.outputs.map((name) => cotangents.get(name) ?? null);
  const optional = (index: number) => {
    const name = node.inputs[index];
    return name ? b.value(name) : null;
  };
  const missing = (what: string) => new Error(`${where(node)}: expected ${what}, got none; export the model again`);
  const [first] = y;
  if (!first) throw missing("an output");
  return {
    b,
    node,
    optional,
    x: (index) => {
      const value = optional(index);
      if (!value) throw missing(`an input at position ${index}`);
      return value;
    },
    y,
    d: ds[0] ?? first,
    ds,
    constant: (index) => {
      const value = optional(index);
      const found = value ? b.contents(value) : null;
      return found?.every((entry) => typeof entry === "number") ? found : null;
    },
  };
}
