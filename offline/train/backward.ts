/**
 * Reverse mode for training: the gradient of the batch's loss with respect to every chosen parameter, whole and summed over the
 * examples. The operators' rules are those of the compiler (offline/autodiff/rules.ts), which give an operand's gradient whether it
 * is an activation or a weight; those of ./weights.ts come first.
 */
import type { Rule } from "../autodiff/rule.ts";
import { addCotangent, contextOf, dependents, ruleOf, unbroadcast } from "../autodiff/walk.ts";
import type { Builder } from "../onnx/builder.ts";
import type { Value } from "../onnx/graph.ts";
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
    const rule = ruleOf(node);
    b.within(`gradient of ${node.name || node.outputs[0]}`);
    const context = contextOf(b, node, cotangents);
    for (const { name, position } of wanted) {
      const give = WEIGHTS[node.op]?.(context)[position] ?? rule(context)[position];
      if (!give) continue;
      addCotangent(b, cotangents, name, unbroadcast(b, give(), b.value(name)));
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
