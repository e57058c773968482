/** ONNX files in and out. Weights kept in external data files are referenced, never read. */
import { readFile } from "node:fs/promises";
import onnxProto, { type onnx } from "onnx-proto";
import { type Attribute, ELEMENT, type Graph, type Node, type Port } from "./graph.ts";
import { normalise } from "./normalise.ts";

const { AttributeType } = onnxProto.onnx.AttributeProto;
const utf8 = new TextDecoder();

/**
 * Reads a model and brings it to the form the compiler works on: local functions and constant branches inlined, constants as
 * initialisers, operator set 18 or later.
 * Throws if there is no such file, it is no ONNX model, or it is quantised.
 */
export async function readModel(path: string): Promise<Graph> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch {
    throw new Error(`no such model: ${path}`);
  }
  return normalise(decode(bytes, path), path);
}

function decode(bytes: Uint8Array, path: string): onnx.IModelProto {
  try {
    const model = onnxProto.onnx.ModelProto.decode(bytes);
    if (model.graph && (model.graph.node ?? []).length > 0 && model.opsetImport.length > 0) return model;
  } catch {
    // Reported below, with the path.
  }
  throw new Error(`not an ONNX model: ${path}; expected a file written by torch.onnx.export`);
}

/** A node as the file holds it, with its attributes by name. */
export function nodeFrom(proto: onnx.INodeProto): Node {
  return {
    name: proto.name ?? "",
    op: proto.opType ?? "",
    domain: proto.domain === "ai.onnx" ? "" : (proto.domain ?? ""),
    inputs: [...(proto.input ?? [])],
    outputs: [...(proto.output ?? [])],
    attributes: Object.fromEntries((proto.attribute ?? []).map((a) => [a.name ?? "", attributeFrom(a)])),
  };
}

function attributeFrom(proto: onnx.IAttributeProto): Attribute {
  switch (proto.type) {
    case AttributeType.INT:
      return Number(proto.i);
    case AttributeType.INTS:
      return (proto.ints ?? []).map(Number);
    case AttributeType.FLOAT:
      return { float: proto.f ?? 0 };
    case AttributeType.STRING:
      return utf8.decode(proto.s ?? new Uint8Array());
    case AttributeType.TENSOR:
      return proto.t ? { tensor: proto.t } : { other: proto };
    case AttributeType.GRAPH:
      return proto.g ? { graph: proto.g } : { other: proto };
    default:
      return { other: proto };
  }
}

function attributeTo(name: string, value: Attribute): onnx.IAttributeProto {
  if (typeof value === "number") return { name, type: AttributeType.INT, i: value };
  if (typeof value === "string") return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) return { name, type: AttributeType.INTS, ints: value };
  if ("float" in value) return { name, type: AttributeType.FLOAT, f: value.float };
  if ("tensor" in value) return { name, type: AttributeType.TENSOR, t: value.tensor };
  if ("graph" in value) return { name, type: AttributeType.GRAPH, g: value.graph };
  return value.other;
}

/** The inputs or outputs that a graph declares. A dimension without a name gets one of its own. */
export function portsFrom(protos: readonly onnx.IValueInfoProto[]): Port[] {
  return protos.map((proto) => ({
    name: proto.name ?? "",
    type: proto.type?.tensorType?.elemType ?? 0,
    shape: (proto.type?.tensorType?.shape?.dim ?? []).map((dim, axis) =>
      dim.dimParam ? dim.dimParam : dim.dimValue ? Number(dim.dimValue) : `${proto.name}.${axis}`,
    ),
  }));
}

/** The bytes of a model. Throws if inline weights exceed protobuf's 2 GB. */
export function writeModel(graph: Graph): Uint8Array {
  const port = (p: Port): onnx.IValueInfoProto => ({
    name: p.name,
    type: {
      tensorType: {
        elemType: p.type,
        shape: { dim: p.shape.map((dim) => (typeof dim === "number" ? { dimValue: dim } : { dimParam: dim })) },
      },
    },
  });
  return onnxProto.onnx.ModelProto.encode({
    irVersion: graph.irVersion,
    opsetImport: [{ domain: "", version: graph.opset }],
    producerName: "influence-edge",
    graph: {
      name: "gradient",
      input: graph.inputs.map(port),
      output: graph.outputs.map(port),
      initializer: [...graph.initializers].map(([name, tensor]) => ({ ...tensor, name })),
      node: graph.nodes.map((node) => ({
        name: node.name,
        opType: node.op,
        domain: node.domain,
        input: node.inputs,
        output: node.outputs,
        attribute: Object.entries(node.attributes).map(([name, value]) => attributeTo(name, value)),
      })),
    },
  }).finish();
}

/** onnxruntime's name of an element type, as `ort.Tensor` takes it. */
export const tensorTypeName = (type: number): string =>
  Object.entries(ELEMENT).find(([, number]) => number === type)?.[0] ?? "undefined";
