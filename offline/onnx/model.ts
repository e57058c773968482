/** ONNX files in and out. Weights kept in external data files are referenced, never read. */
import { readFile } from "node:fs/promises";
import onnxProto, { type onnx } from "onnx-proto";
import { ELEMENT, type Graph, type Port } from "./graph.ts";
import { normalise } from "./normalise.ts";
import { attributeTo } from "./proto.ts";

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
