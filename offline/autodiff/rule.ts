/** What a gradient rule is given, and what it gives. */
import type { Builder } from "../onnx/builder.ts";
import type { Node, Value } from "../onnx/graph.ts";

export interface RuleContext {
  b: Builder;
  node: Node;
  /** The input at a position; throws if it is left out. */
  x(index: number): Value;
  optional(index: number): Value | null;
  /** The output at a position. */
  y: Value[];
  /** Cotangent of the first output, of its shape. */
  d: Value;
  /** Cotangents of all outputs; null where nothing flows back. */
  ds: (Value | null)[];
  /** Contents of a constant input, or null. */
  constant(index: number): number[] | null;
}

/**
 * One gradient per input, made only if asked for; null where the output does not depend smoothly on that input (an index, a
 * condition, a shape). "No gradient" is thus different from "no rule".
 */
export type Rule = (context: RuleContext) => (null | (() => Value))[];
