/** Nodes, attributes and ports, from protobuf messages and back. */
import onnxProto, { type onnx } from "onnx-proto";
import type { Attribute, Node, Port } from "./graph.ts";

const { AttributeType } = onnxProto.onnx.AttributeProto;
const utf8 = new TextDecoder();

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

/** An attribute as a file holds it. */
export function attributeTo(name: string, value: Attribute): onnx.IAttributeProto {
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
