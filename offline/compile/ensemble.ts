/**
 * Ensembles: the gradient graphs of several members, which are masks of one model or checkpoints of it, as one graph. Its `gradient`
 * is theirs side by side, so that each member is blocks of its own in everything that follows; its loss and its other outputs are
 * their means. What members share bit for bit, such as the weights under several masks, is there once, and onnxruntime computes
 * what they share once.
 */
import onnxProto, { type onnx } from "onnx-proto";
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { encodeMask } from "../../src/core/mask-file.ts";
import type { CompiledGradient } from "./compile.ts";

const { AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } = onnxProto.onnx;

/** A member, and what its layers' names begin with. */
export interface Member {
  name: string;
  compiled: CompiledGradient;
}

const { DataType } = TensorProto;

const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** Throws an Error that says in what a member differs from the first where all have to agree. */
function checkMembers(members: readonly Member[]): void {
  const [first, ...others] = members;
  for (const { name, compiled } of others) {
    for (const part of ["inputs", "target", "outputs"] as const) {
      if (!same(compiled[part], first!.compiled[part])) {
        throw new Error(
          `ensemble: ${name}: expected the ${part} of ${first!.name}, ${JSON.stringify(first!.compiled[part])}, got ${JSON.stringify(compiled[part])}; use checkpoints of one model`,
        );
      }
    }
    if (compiled.dimension !== first!.compiled.dimension) {
      throw new Error(
        `ensemble: ${name}: expected R = ${first!.compiled.dimension} as of ${first!.name}, got ${compiled.dimension}; use checkpoints of one model`,
      );
    }
    if (Buffer.compare(compiled.graph, first!.compiled.graph) === 0 && sameMask(compiled, first!.compiled)) {
      throw new Error(
        `ensemble: ${name}: expected other coordinates or weights than those of ${first!.name}, got the same; choose a compressor that draws them, such as importance or uniform`,
      );
    }
  }
}

const sameMask = (one: CompiledGradient, other: CompiledGradient): boolean =>
  Buffer.compare(encodeMask(one.mask), encodeMask(other.mask)) === 0;

/** A graph with every value, node and initialiser renamed but those in `kept`, within branches and loops too. */
function renamed(graph: onnx.IGraphProto, rename: (name: string) => string): onnx.IGraphProto {
  const own = (name: string | null | undefined) => (name ? rename(name) : "");
  return GraphProto.create({
    ...graph,
    input: (graph.input ?? []).map((info) => ValueInfoProto.create({ ...info, name: own(info.name) })),
    output: (graph.output ?? []).map((info) => ValueInfoProto.create({ ...info, name: own(info.name) })),
    valueInfo: [],
    initializer: (graph.initializer ?? []).map((tensor) => TensorProto.create({ ...tensor, name: own(tensor.name) })),
    node: (graph.node ?? []).map((node) =>
      NodeProto.create({
        ...node,
        name: own(node.name),
        input: (node.input ?? []).map(own),
        output: (node.output ?? []).map(own),
        attribute: (node.attribute ?? []).map((attribute) =>
          attribute.g ? AttributeProto.create({ ...attribute, g: renamed(attribute.g, rename) }) : attribute,
        ),
      }),
    ),
  });
}

const FLOATS = new Set([DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE, DataType.BFLOAT16]);

/** One output from all members' of that name: [B, ΣR] of gradients, means of other numbers, of whole numbers the first's. */
function join({ name = "", type }: onnx.IValueInfoProto, from: readonly string[]): onnx.INodeProto {
  if (!FLOATS.has(type?.tensorType?.elemType ?? 0)) {
    return NodeProto.create({ opType: "Identity", name, input: from.slice(0, 1), output: [name ?? ""] });
  }
  if (name !== "gradient") return NodeProto.create({ opType: "Mean", name, input: [...from], output: [name ?? ""] });
  const axis = { name: "axis", type: AttributeProto.AttributeType.INT, i: 1 };
  return NodeProto.create({ opType: "Concat", name, input: [...from], output: [name], attribute: [axis] });
}

const encodeTensor = (tensor: onnx.ITensorProto): Buffer =>
  Buffer.from(TensorProto.encode(TensorProto.create({ ...tensor, name: "" })).finish());

/**
 * Joins compiled members. Throws an Error when they differ in their inputs, outputs or R, or when one is the same as the first.
 */
export function joinMembers(members: readonly Member[]): CompiledGradient {
  checkMembers(members);
  const [{ compiled: first }] = members as readonly [Member, ...Member[]];
  const models = members.map(({ compiled }) => ModelProto.decode(compiled.graph));
  const [model] = models;
  const shared = new Set([...first.inputs, ...(first.target ? [first.target] : [])].map(({ name }) => name));
  const kept = new Map((model!.graph?.initializer ?? []).map((tensor) => [tensor.name ?? "", encodeTensor(tensor)]));
  const graphs = models.map(({ graph }, index) => {
    const alike = new Set(
      (graph?.initializer ?? []).flatMap((tensor) => {
        const before = kept.get(tensor.name ?? "");
        return before && Buffer.compare(before, encodeTensor(tensor)) === 0 ? [tensor.name ?? ""] : [];
      }),
    );
    return renamed(graph ?? {}, (name) => (shared.has(name) || alike.has(name) ? name : `${index + 1}/${name}`));
  });
  const initializers = new Map(
    graphs.flatMap(({ initializer }) => (initializer ?? []).map((tensor) => [tensor.name ?? "", tensor] as const)),
  );
  const dimension = members.reduce((sum, { compiled }) => sum + compiled.dimension, 0);
  const outputs = (model!.graph?.output ?? []).map((info) =>
    info.name === "gradient" ? withLastExtent(info, dimension) : info,
  );
  const joined = ModelProto.create({
    ...model,
    graph: GraphProto.create({
      ...model!.graph,
      valueInfo: [],
      initializer: [...initializers.values()],
      output: outputs,
      node: [
        ...graphs.flatMap(({ node }) => node ?? []),
        ...outputs.map((info) =>
          join(
            info,
            members.map((_, index) => `${index + 1}/${info.name}`),
          ),
        ),
      ],
    }),
  });
  return {
    ...first,
    graph: ModelProto.encode(joined).finish(),
    layers: members.flatMap(({ name, compiled }) => compiled.layers.map((layer) => namedLayer(name, layer))),
    mask: shiftedMasks(members),
    dimension,
    externalData: [...new Set(members.flatMap(({ compiled }) => compiled.externalData))],
  };
}

function withLastExtent(info: onnx.IValueInfoProto, extent: number): onnx.IValueInfoProto {
  const copy = ValueInfoProto.decode(ValueInfoProto.encode(ValueInfoProto.create(info)).finish());
  const dims = copy.type?.tensorType?.shape?.dim ?? [];
  dims[dims.length - 1] = onnxProto.onnx.TensorShapeProto.Dimension.create({ dimValue: extent });
  return copy;
}

const namedLayer = (member: string, layer: Layer): Layer => ({ ...layer, name: `${member}: ${layer.name}` });

function shiftedMasks(members: readonly Member[]): MaskBlock[] {
  let before = 0;
  return members.flatMap(({ name, compiled }) => {
    const blocks = compiled.mask.map((block) => ({
      ...block,
      layer: `${name}: ${block.layer}`,
      offset: before + block.offset,
    }));
    before += compiled.dimension;
    return blocks;
  });
}
