/**
 * A graph in memory: nodes in topological order, tensors as the file holds them (the bytes of large ones are never copied or
 * read), and what is known of every edge.
 */
import type { onnx } from "onnx-proto";
import type { Dim } from "./dims.ts";

/** Element types by ONNX's number, with onnxruntime's name of each. */
export const ELEMENT = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
} as const;

export function elementName(type: number): string {
  return Object.entries(ELEMENT).find(([, number]) => number === type)?.[0] ?? `element type ${type}`;
}

export const isFloat = (type: number): boolean =>
  type === ELEMENT.float32 || type === ELEMENT.float64 || type === ELEMENT.float16 || type === ELEMENT.bfloat16;

export type Attribute =
  | number
  | number[]
  | string
  | { float: number }
  | { tensor: onnx.ITensorProto }
  | { graph: onnx.IGraphProto }
  | { other: onnx.IAttributeProto };

export interface Node {
  name: string;
  op: string;
  /** "" for ONNX's own operators. */
  domain: string;
  /** Names of values; "" for an absent optional one. */
  inputs: string[];
  outputs: string[];
  attributes: Record<string, Attribute>;
}

/** Where the examples lie in a value: along `axis`, example b at positions whose (position ÷ inner) mod B is b. */
export interface Batch {
  axis: number;
  inner: Dim;
}

/** An edge of the graph. */
export interface Value {
  name: string;
  /** ONNX element type. */
  type: number;
  shape: Dim[];
  /** Where the examples lie; null if the value is the same for every batch. */
  batch: Batch | null;
  /** Contents, flattened, of a small integer or boolean value that is known before running (entries may be symbolic extents). */
  known: Dim[] | null;
  /** The node that gives it combines values of different examples, or loses track of which is which. */
  mixed: boolean;
}

/** An input or output of the whole graph. */
export interface Port {
  name: string;
  type: number;
  shape: (number | string)[];
}

export interface Graph {
  inputs: Port[];
  outputs: Port[];
  initializers: Map<string, onnx.ITensorProto>;
  nodes: Node[];
  /** Version of ONNX's own operator set; at least 18 after reading. */
  opset: number;
  irVersion: number;
}

export const where = (node: Node): string => `node ${node.name || node.outputs[0] || "(unnamed)"} (${node.op})`;

const mistyped = (node: Node, name: string, expected: string) =>
  new Error(`${where(node)}: expected attribute ${name} to be ${expected}; export the model again`);

export function integer(node: Node, name: string, fallback: number): number {
  const value = node.attributes[name] ?? fallback;
  if (typeof value !== "number") throw mistyped(node, name, "an integer");
  return value;
}

export function integers(node: Node, name: string): number[] | null {
  const value = node.attributes[name];
  if (value === undefined) return null;
  if (!Array.isArray(value)) throw mistyped(node, name, "a list of integers");
  return value;
}

export function real(node: Node, name: string, fallback: number): number {
  const value = node.attributes[name];
  if (value === undefined) return fallback;
  if (typeof value === "object" && "float" in value) return value.float;
  throw mistyped(node, name, "a number");
}

export function text(node: Node, name: string, fallback: string): string {
  const value = node.attributes[name] ?? fallback;
  if (typeof value !== "string") throw mistyped(node, name, "a string");
  return value;
}
