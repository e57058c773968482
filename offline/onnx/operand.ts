/** A node's inputs, when a model is read. */

import { type Node, type Value, where } from "./graph.ts";
import type { Operators } from "./operators.ts";

/** Throws, naming the node, if the input is left out. */
export function operand(b: Operators, node: Node, index: number): Value {
  const name = node.inputs[index];
  if (!name)
    throw new Error(`${where(node)}: expected an input at position ${index}, got none; export the model again`);
  return b.value(name);
}
