/** What an inference rule is given and gives, and what the rules share. */
import type { Dim } from "../dims.ts";
import { integers, type Node, type Value, where } from "../graph.ts";

export interface Inferred {
  type: number;
  shape: Dim[];
  known?: Dim[] | null;
  /** Positions between examples along the batch axis, where the axis holds more than the examples. */
  inner?: Dim | null;
  /** The operator combines values of different examples. */
  mixes?: boolean;
}

export interface InferContext {
  node: Node;
  /** The input, which must be there. */
  input(index: number): Value;
  /** The input, or null if it is left out. */
  optional(index: number): Value | null;
  /** Contents of a constant input, or null. */
  constant(index: number): Dim[] | null;
  /** A symbol for an extent of which nothing is known. */
  unknown(): string;
  /** The symbol of the number of examples. */
  batch: string;
}

export type Infer = (context: InferContext) => Inferred[];

/** Symbols for extents of which nothing is known. */
export const unknownExtent = (number: number): string => `unknown${number}`;
const isUnknown = (dim: Dim): boolean => typeof dim === "string" && dim.startsWith("unknown");

/** The shape of an elementwise result. An extent that is not 1 is the result's; of two that differ, a number is trusted. */
export function broadcast(shapes: readonly (readonly Dim[])[]): Dim[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1).filter((dim) => dim !== 1);
    return dims.find((dim) => typeof dim === "number") ?? dims.find((dim) => !isUnknown(dim)) ?? dims[0] ?? 1;
  });
}

export const normalAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** The inputs that are not left out. */
export const present = (c: InferContext): Value[] =>
  c.node.inputs.flatMap((name, index) => (name === "" ? [] : [c.input(index)]));

/** The axes that a reduction, Squeeze or Unsqueeze names, as non-negative numbers of `rank`; null if they are not constant. */
export function axesOf(c: Pick<InferContext, "node" | "constant">, index: number, rank: number): number[] | null {
  const given = integers(c.node, "axes") ?? (c.node.inputs[index] ? c.constant(index) : []);
  if (!given?.every((axis) => typeof axis === "number")) return null;
  return given.map((axis) => normalAxis(axis, rank));
}

/** The value, which must be known before running. */
export function required<T>(c: InferContext, what: string, value: T | null): T {
  if (value === null) {
    throw new Error(
      `${where(c.node)}: expected ${what} to be known before running; export the model with fixed ${what}`,
    );
  }
  return value;
}

/** Whether one of the axes holds the examples. */
export const overBatch = (value: Value, axes: readonly number[]): boolean =>
  value.batch !== null && axes.includes(value.batch.axis);

/** One rule for several operators, named in a list. */
export const forEach = (operators: string, infer: Infer): [string, Infer][] =>
  operators.split(" ").map((op) => [op, infer]);
