/**
 * From what exporters write to what the compiler works on: local functions inlined, constants as initialisers, Identity and
 * inference-time Dropout removed, bfloat16 as float32, and operator set 18 or later (whose reductions take their axes as an input).
 */
import type { onnx } from "onnx-proto";
import { ELEMENT, type Graph, type Node, where } from "./graph.ts";
import { nodeFrom, portsFrom } from "./proto.ts";
import { extents, numbersOf, tensorOf } from "./tensor.ts";
import { withoutBfloat16 } from "./widen.ts";

const OLDEST = 13;
const NEWEST = 23;
const OURS = 18;

const QUANTISED = /^(Quantize|Dequantize|DynamicQuantize|QLinear)|Integer$|^MatMulNBits$/;

/** Reductions whose `axes` attribute became an input in operator set 18. */
const AXES_MOVED = /^Reduce(Mean|Max|Min|Prod|L1|L2|LogSum|LogSumExp|SumSquare)$/;

/** Throws, naming the file, if the model is quantised or written for operator sets that are not understood. */
export function normalise(model: onnx.IModelProto, path: string): Graph {
  const proto = model.graph ?? {};
  const opset = Number((model.opsetImport ?? []).find((o) => !o.domain || o.domain === "ai.onnx")?.version ?? 0);
  if (opset < OLDEST || opset > NEWEST) {
    throw new Error(
      `${path}: expected operator set ${OLDEST} to ${NEWEST}, got ${opset}; export with opset_version=${OURS}`,
    );
  }
  const initializers = new Map((proto.initializer ?? []).map((tensor) => [tensor.name ?? "", tensor]));
  const functions = new Map((model.functions ?? []).map((f) => [`${f.domain ?? ""}:${f.name ?? ""}`, f]));
  let counter = 0;
  const unique = () => `#${counter++}`;
  const inlined = (proto.node ?? []).map(nodeFrom).flatMap((node) => inlineFunctions(node, functions, unique));

  const alias = new Map<string, string>();
  const outputs = new Set((proto.output ?? []).map((output) => output.name ?? ""));
  const nodes: Node[] = [];
  const sequences = new Map<string, Node>();
  for (const raw of inlined) {
    const node = { ...raw, inputs: raw.inputs.map((name) => alias.get(name) ?? name) };
    if (QUANTISED.test(node.op)) {
      throw new Error(
        `${where(node)}: the model is quantised, and its gradient is zero or undefined; compile the float model it was made from`,
      );
    }
    const [input, output] = [node.inputs[0], node.outputs[0]];
    const passes = node.op === "Identity" || (node.op === "Dropout" && !node.outputs[1]);
    if (passes && input !== undefined && output !== undefined && !outputs.has(output)) alias.set(output, input);
    else if (node.op === "Constant" && output !== undefined) initializers.set(output, constantOf(node));
    else if (node.op === "SplitToSequence" && output !== undefined) sequences.set(output, node);
    else if (node.op === "SequenceAt" && sequences.has(input ?? "")) {
      nodes.push(partOf(node, sequences.get(input ?? "") ?? node, initializers));
    } else nodes.push(...modernised(node, opset, initializers));
  }
  return withoutBfloat16({
    inputs: portsFrom((proto.input ?? []).filter((input) => !initializers.has(input.name ?? ""))),
    outputs: portsFrom(proto.output ?? []),
    initializers,
    nodes,
    opset: Math.max(opset, OURS),
    irVersion: Math.max(Number(model.irVersion ?? 8), 8),
  });
}

/** A node in the form it has since operator set 18. */
function modernised(node: Node, opset: number, initializers: Map<string, onnx.ITensorProto>): Node[] {
  if (node.op === "Dropout") return [{ ...node, op: "Identity", inputs: node.inputs.slice(0, 1), attributes: {} }];
  const axes = node.attributes.axes;
  if (opset < 18 && AXES_MOVED.test(node.op) && Array.isArray(axes)) {
    const name = `${node.outputs[0]}.axes`;
    initializers.set(name, tensorOf(ELEMENT.int64, [axes.length], axes));
    const { axes: _, ...attributes } = node.attributes;
    return [{ ...node, inputs: [node.inputs[0] ?? "", name], attributes }];
  }
  if (opset < 18 && node.op === "Split" && !node.inputs[1]) {
    return [{ ...node, attributes: { ...node.attributes, num_outputs: node.outputs.length } }];
  }
  return [node];
}

/** An entry of a sequence of parts, as the slice that it is. Throws unless the parts' sizes and the entry's number are constant. */
function partOf(entry: Node, parts: Node, initializers: Map<string, onnx.ITensorProto>): Node {
  const numbers = (name: string | undefined) => {
    const tensor = name ? initializers.get(name) : undefined;
    return tensor ? { of: numbersOf(tensor), scalar: extents(tensor).length === 0 } : null;
  };
  const [sizes, at] = [
    parts.inputs[1] ? numbers(parts.inputs[1]) : { of: [1], scalar: true },
    numbers(entry.inputs[1])?.of[0],
  ];
  const dropped = !parts.inputs[1] && parts.attributes.keepdims === 0;
  const count = sizes?.scalar ? null : sizes?.of.length;
  if (!sizes || at === undefined || dropped || (at < 0 && count === null)) {
    throw new Error(
      `${where(entry)}: expected an entry of constant number of parts of constant size, got others; export with the exporter's optimisation`,
    );
  }
  const index = at < 0 ? at + (count ?? 0) : at;
  const size = sizes.of[sizes.scalar ? 0 : index] ?? 0;
  const start = sizes.scalar ? index * size : sizes.of.slice(0, index).reduce((sum, extent) => sum + extent, 0);
  const axis = typeof parts.attributes.axis === "number" ? parts.attributes.axis : 0;
  const inputs = [
    ["start", start],
    ["end", start + size],
    ["axis", axis],
  ].map(([what, number]) => {
    const name = `${entry.outputs[0]}.${what}`;
    initializers.set(name, tensorOf(ELEMENT.int64, [1], [Number(number)]));
    return name;
  });
  return { ...entry, op: "Slice", inputs: [parts.inputs[0] ?? "", ...inputs], attributes: {} };
}

/** The tensor of a Constant node. */
export function constantOf(node: Node): onnx.ITensorProto {
  const { value, value_int, value_ints, value_float, value_floats } = node.attributes;
  if (typeof value === "object" && "tensor" in value) return value.tensor;
  if (typeof value_int === "number") return tensorOf(ELEMENT.int64, [], [value_int]);
  if (Array.isArray(value_ints)) return tensorOf(ELEMENT.int64, [value_ints.length], value_ints);
  if (typeof value_float === "object" && "float" in value_float) {
    return tensorOf(ELEMENT.float32, [], [value_float.float]);
  }
  if (typeof value_floats === "object" && "other" in value_floats) {
    const floats = value_floats.other.floats ?? [];
    return tensorOf(ELEMENT.float32, [floats.length], floats);
  }
  throw new Error(`${where(node)}: expected a tensor, integers or floats; export the model again`);
}

type Functions = Map<string, onnx.IFunctionProto>;

/** A call of a local function becomes the function's nodes, its inner values named after the call. */
function inlineFunctions(node: Node, functions: Functions, unique: () => string): Node[] {
  const body = functions.get(`${node.domain}:${node.op}`);
  if (!body) return [node];
  const prefix = `${node.name || node.op}${unique()}/`;
  const names = new Map<string, string>([["", ""]]);
  (body.input ?? []).forEach((name, index) => {
    names.set(name, node.inputs[index] ?? "");
  });
  (body.output ?? []).forEach((name, index) => {
    names.set(name, node.outputs[index] || `${prefix}${name}`);
  });
  const rename = (name: string) => names.get(name) ?? `${prefix}${name}`;
  return (body.node ?? [])
    .map((inner) => nodeFrom(renamed(withAttributes(inner, node), rename)))
    .flatMap((inner) => inlineFunctions({ ...inner, name: `${prefix}${inner.name}` }, functions, unique));
}

/** Attributes that refer to the function's own take the values that the call gives them. */
function withAttributes(inner: onnx.INodeProto, call: Node): onnx.INodeProto {
  const attribute = (inner.attribute ?? []).flatMap((reference) => {
    if (!reference.refAttrName) return [reference];
    const given = call.attributes[reference.refAttrName];
    if (given === undefined) return [];
    if (typeof given === "number") return [{ ...reference, refAttrName: "", i: given }];
    if (typeof given === "string") return [{ ...reference, refAttrName: "", s: new TextEncoder().encode(given) }];
    if (Array.isArray(given)) return [{ ...reference, refAttrName: "", ints: given }];
    if ("float" in given) return [{ ...reference, refAttrName: "", f: given.float }];
    if ("tensor" in given) return [{ ...reference, refAttrName: "", t: given.tensor }];
    if ("graph" in given) return [{ ...reference, refAttrName: "", g: given.graph }];
    return [{ ...given.other, name: reference.name ?? "" }];
  });
  return { ...inner, attribute };
}

/** A node with its values renamed, also inside the graphs that it holds (they see the values around them). */
function renamed(node: onnx.INodeProto, rename: (name: string) => string): onnx.INodeProto {
  return {
    ...node,
    input: (node.input ?? []).map(rename),
    output: (node.output ?? []).map(rename),
    attribute: (node.attribute ?? []).map((attribute) =>
      attribute.g ? { ...attribute, g: renamedGraph(attribute.g, rename) } : attribute,
    ),
  };
}

function renamedGraph(graph: onnx.IGraphProto, rename: (name: string) => string): onnx.IGraphProto {
  return {
    ...graph,
    node: (graph.node ?? []).map((node) => renamed(node, rename)),
    initializer: (graph.initializer ?? []).map((tensor) => ({ ...tensor, name: rename(tensor.name ?? "") })),
    output: (graph.output ?? []).map((output) => ({ ...output, name: rename(output.name ?? "") })),
  };
}

/** The nodes of an If's branch, giving the If's outputs. Constants of the branch are added to `initializers`. */
export function branchNodes(node: Node, graph: onnx.IGraphProto, initializers: Map<string, onnx.ITensorProto>): Node[] {
  for (const tensor of graph.initializer ?? []) initializers.set(tensor.name ?? "", tensor);
  const nodes = (graph.node ?? []).map(nodeFrom);
  const results = (graph.output ?? []).map((output, index) => ({
    name: `${node.name}.${index}`,
    op: "Identity",
    domain: "",
    inputs: [output.name ?? ""],
    outputs: [node.outputs[index] ?? ""],
    attributes: {},
  }));
  return [...nodes, ...results].flatMap((inner) => {
    if (inner.op !== "Constant") return [inner];
    initializers.set(inner.outputs[0] ?? "", constantOf(inner));
    return [];
  });
}
