/**
 * Reverse mode over the graph. A value that holds examples gets a cotangent of its own shape: because examples do not mix, the
 * gradient of Σ_b loss_b with respect to it is each example's own. A value made of parameters alone gets one gradient per
 * example (`PerExample`), of which only kept entries are ever computed.
 */
import type { Builder } from "../onnx/builder.ts";
import { type Node, type Value, where } from "../onnx/graph.ts";
import { summedPerExample, summedProduct } from "./axes.ts";
import { carry } from "./carry.ts";
import { fixed, held, type PerExample, summed } from "./per-example.ts";
import { broadcasts } from "./rules.ts";
import { USES } from "./uses.ts";
import { addCotangent, contextOf, dependents, ruleOf, unbroadcast } from "./walk.ts";

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
    const rule = ruleOf(node);
    b.within(node.name || node.outputs[0] || node.op);
    const context = contextOf(b, node, cotangents);
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
        addCotangent(b, cotangents, name, broadcasts(node.op, position) ? unbroadcast(b, give(), value) : give());
      } else if (broadcasts(node.op, position)) {
        const whole = () =>
          node.op === "Mul"
            ? summedProduct(b, context.d, context.x(1 - position), value.shape)
            : summedPerExample(b, give(), value.shape);
        addGradient(name, held(b, whole, value.shape));
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

const mixing = (node: Node) =>
  new Error(
    `${where(node)}: combines values of different examples, or its result's examples cannot be told apart; each example needs a gradient of its own: export in eval mode, with the batch as a dynamic axis that no operator reduces or fixes`,
  );

const noUse = (node: Node, name: string) =>
  new Error(
    `${where(node)}: no rule for parameter ${name} as an input of ${node.op}; leave it out with --layers '!${name}'`,
  );
