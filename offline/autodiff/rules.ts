/** The one table of gradient rules: an operator's entry gives one gradient per input. */
import type { Rule } from "./rule.ts";
import { ELEMENTWISE } from "./rules/elementwise.ts";
import { INDEXING } from "./rules/indexing.ts";
import { POOLING } from "./rules/pooling.ts";
import { PRODUCT } from "./rules/product.ts";
import { REDUCE } from "./rules/reduce.ts";
import { SHAPE } from "./rules/shape.ts";

export const RULES = new Map<string, Rule>(
  [ELEMENTWISE, SHAPE, REDUCE, PRODUCT, POOLING, INDEXING].flatMap((family) => Object.entries(family)),
);

/** Whether a gradient of an input at `position` only needs summing over broadcast axes to have the input's shape. */
export function broadcasts(op: string, position: number): boolean {
  if (op in ELEMENTWISE) return true;
  return (op === "LayerNormalization" || op === "RMSNormalization") && position > 0;
}
