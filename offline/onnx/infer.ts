/**
 * What is known of a node's outputs before it runs: element type, shape, and the contents of small integer values (shapes that
 * the model computes). One entry an operator; the same table serves the model's nodes and the nodes that the compiler adds.
 */
import { where } from "./graph.ts";
import type { InferContext, Inferred } from "./infer/context.ts";
import { ENTRIES } from "./infer/entries.ts";
import { MOVES } from "./infer/moves.ts";
import { PRODUCTS } from "./infer/products.ts";
import { SOURCES } from "./infer/sources.ts";

const TABLE = new Map([...ENTRIES, ...PRODUCTS, ...MOVES, ...SOURCES]);

/** Throws, naming node and operator, if the operator is not understood or an input that must be constant is not. */
export function infer(context: InferContext): Inferred[] {
  const rule = TABLE.get(context.node.op);
  if (!rule || context.node.domain !== "") {
    const op = context.node.domain ? `${context.node.domain}.${context.node.op}` : context.node.op;
    throw new Error(
      `${where(context.node)}: no rule for operator ${op}; supported: ${[...TABLE.keys()].sort().join(", ")}`,
    );
  }
  return rule(context);
}
