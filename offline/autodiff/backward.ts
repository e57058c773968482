/**
 * Reverse mode over the graph. A value that holds examples gets a cotangent of its own shape: because examples do not mix, the
 * gradient of Σ_b loss_b with respect to it is each example's own. A value made of parameters alone gets one gradient per
 * example (`PerExample`), of which only kept entries are ever computed.
 */
import type { Builder } from "../onnx/builder.ts";
import { isFloat, type Node, type Value, where } from "../onnx/graph.ts";
import { carry } from "./carry.ts";
import { fixed, held, type PerExample, summed, summedPerExample } from "./per-example.ts";
import type { RuleContext } from "./rule.ts";
import { broadcasts, RULES } from "./rules.ts";
import { USES } from "./uses.ts";

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

/**
 * The gradients of the chosen parameters, from the cotangents of `seeds` (by value name). A parameter that does not reach a seed
 * is left out.
 * Throws, naming node and operator, where an operator on the way has no rule or combines values of different examples.
 */
export function backward(
  b: Builder,
  seeds: ReadonlyMap<string, Value>,
  parameters: ReadonlySet<string>,
): Map<string, PerExample> {
  const nodes = [...b.nodes];
  const active = dependents(b, parameters);
  const cotangents = new Map<string, Value>();
  for (const [name, seed] of seeds) if (active.has(name)) cotangents.set(name, seed);
  const gradients = new Map<string, PerExample[]>();
  const addGradient = (name: string, gradient: PerExample) =>
    gradients.set(name, [...(gradients.get(name) ?? []), gradient]);

  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((name) => cotangents.has(name) || gradients.has(name))) continue;
    const wanted = node.inputs.flatMap((name, position) =>
      active.has(name) ? [{ name, position, value: b.value(name) }] : [],
    );
    if (wanted.length === 0) continue;
    const outputs = node.outputs.map((name) => b.value(name));
    if (outputs.some((output) => output.mixed)) throw mixing(node);
    const rule = RULES.get(node.op);
    if (!rule) throw noRule(node);
    b.within(node.name || node.outputs[0] || node.op);
    const context = contextOf(b, node, outputs, cotangents);
    for (const { name, position, value } of wanted) {
      for (const [index, output] of node.outputs.entries()) {
        const found = gradients.get(output);
        if (!found) continue;
        const [own] = outputs.slice(index);
        const ds = outputs.map((y) => (y === own ? y : null));
        const carried = carry({ ...context, ds }, position, value.shape, summed(b, found), rule);
        if (carried) addGradient(name, carried);
      }
      if (!context.ds.some((d) => d)) continue;
      const use = value.batch ? undefined : USES[node.op];
      if (use) {
        addGradient(name, use(context, position, fixed(value.shape)));
        continue;
      }
      const give = rule(context)[position];
      if (!give) continue;
      if (value.batch) {
        const gradient = broadcasts(node.op, position) ? unbroadcast(b, give(), value) : give();
        const before = cotangents.get(name);
        cotangents.set(name, before ? b.add(before, gradient) : gradient);
      } else if (broadcasts(node.op, position)) {
        addGradient(
          name,
          held(b, () => summedPerExample(b, give(), value.shape), value.shape),
        );
      } else throw noUse(node, name);
    }
  }
  b.within("");
  return new Map(
    [...parameters].flatMap((name) => {
      const found = gradients.get(name);
      return found ? [[name, summed(b, found)] as const] : [];
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

function contextOf(b: Builder, node: Node, outputs: Value[], cotangents: ReadonlyMap<string, Value>): RuleContext {
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

const mixing = (node: Node) =>
  new Error(
    `${where(node)}: combines values of different examples, or its result's examples cannot be told apart; each example needs a gradient of its own: export in eval mode, with the batch as a dynamic axis that no operator reduces or fixes`,
  );

const noRule = (node: Node) =>
  new Error(
    `${where(node)}: no gradient rule for operator ${node.op}; supported: ${[...RULES.keys()].sort().join(", ")}`,
  );

const noUse = (node: Node, name: string) =>
  new Error(
    `${where(node)}: no rule for parameter ${name} as an input of ${node.op}; leave it out with --layers '!${name}'`,
  );
