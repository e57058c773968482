/**
 * bfloat16 as float32: onnxruntime's CPU provider has hardly a kernel for the former, and JavaScript no array. The weights keep their
 * values, for each bfloat16 is a float32; inputs and outputs become float32, and what lies between is computed in it.
 */
import type { onnx } from "onnx-proto";
import { type Attribute, ELEMENT, type Graph, type Node, type Port } from "./graph.ts";
import { isExternal } from "./tensor.ts";

/** The graph without bfloat16. Weights inside the file are rewritten; those in external files stay there, and are cast when the graph runs. */
export function withoutBfloat16(graph: Graph): Graph {
  const external = new Map<string, string>();
  const initializers = new Map(
    [...graph.initializers].map(([name, tensor]) => {
      if (tensor.dataType !== ELEMENT.bfloat16) return [name, tensor];
      if (!isExternal(tensor)) return [name, widened(tensor)];
      external.set(name, `${name}.float32`);
      return [name, tensor];
    }),
  );
  const casts = [...external].map(([name, wide]): Node => {
    const attributes = { to: ELEMENT.float32 };
    return { name: wide, op: "Cast", domain: "", inputs: [name], outputs: [wide], attributes };
  });
  const nodes = graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map((name) => external.get(name) ?? name),
    attributes: Object.fromEntries(
      Object.entries(node.attributes).map(([name, value]) => [name, attribute(name, value)]),
    ),
  }));
  const port = (p: Port): Port => (p.type === ELEMENT.bfloat16 ? { ...p, type: ELEMENT.float32 } : p);
  return {
    ...graph,
    inputs: graph.inputs.map(port),
    outputs: graph.outputs.map(port),
    initializers,
    nodes: [...casts, ...nodes],
  };
}

function attribute(name: string, value: Attribute): Attribute {
  if (name === "to" && value === ELEMENT.bfloat16) return ELEMENT.float32;
  const inner = typeof value === "object" && "tensor" in value ? value.tensor : null;
  return inner?.dataType === ELEMENT.bfloat16 ? { tensor: widened(inner) } : value;
}

/** A bfloat16 is a float32's upper half. */
function widened({ rawData, int32Data, ...tensor }: onnx.ITensorProto): onnx.ITensorProto {
  const halves = rawData?.length
    ? Uint16Array.from(
        { length: rawData.length / 2 },
        (_, at) => (rawData[2 * at] ?? 0) | ((rawData[2 * at + 1] ?? 0) << 8),
      )
    : Uint16Array.from(int32Data ?? []);
  const bytes = new Uint8Array(4 * halves.length);
  halves.forEach((half, at) => {
    bytes[4 * at + 2] = half & 0xff;
    bytes[4 * at + 3] = half >> 8;
  });
  return { ...tensor, dataType: ELEMENT.float32, rawData: bytes };
}
