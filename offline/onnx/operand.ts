/** A node's inputs, when a model is read. */
import type { Builder } from "./builder.ts";
import { type Node, type Value, where } from "./graph.ts";

/** Throws, naming the node, if the input is left out. */
export function operand(b: Builder, node: Node, index: number): Value {
  const name = node.inputs[index];
  if (!name)
    throw new Error(`${where(node)}: expected an input at position ${index}, got none; export the model again`);
  return b.value(name);
}
