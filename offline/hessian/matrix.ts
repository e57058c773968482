/**
 * The dense products of the fit, in float64 through onnxruntime: one small graph each, whose blocks are the layers' columns
 * of the [rows, R] gradients.
 */
import onnxProto, { type onnx } from "onnx-proto";
import { type InferenceSession, Tensor } from "onnxruntime-node";
import { type Device, openSession } from "../gradients/session.ts";

const { AttributeProto, ModelProto, TensorProto } = onnxProto.onnx;

/** Columns offset … offset + r − 1 of the R-dimensional vector. */
export interface Block {
  offset: number;
  r: number;
}

const { DataType } = TensorProto;

function valueInfo(name: string, elemType: number, shape: (number | string)[]): onnx.IValueInfoProto {
  const dim = shape.map((extent) => (typeof extent === "number" ? { dimValue: extent } : { dimParam: extent }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

function int64s(name: string, values: number[]): onnx.ITensorProto {
  const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { name, dataType: DataType.INT64, dims: [values.length], rawData };
}

/** Nodes that cut block b out of `gradients` and widen it: `block_b` is [rows, r] float64. */
function blockNodes(blocks: readonly Block[]): { nodes: onnx.INodeProto[]; constants: onnx.ITensorProto[] } {
  const constants = [int64s("columns", [1])];
  const nodes = blocks.flatMap(({ offset, r }, b) => {
    constants.push(int64s(`start_${b}`, [offset]), int64s(`end_${b}`, [offset + r]));
    return [
      { opType: "Slice", input: ["gradients", `start_${b}`, `end_${b}`, "columns"], output: [`narrow_${b}`] },
      {
        opType: "Cast",
        input: [`narrow_${b}`],
        output: [`block_${b}`],
        attribute: [{ name: "to", type: AttributeProto.AttributeType.INT, i: DataType.DOUBLE }],
      },
    ];
  });
  return { nodes, constants };
}

/** Where products run: all of the CPU's cores where `threads` is left out. */
export interface ProductDevice {
  device?: Device;
  threads?: number;
}

function sessionOf(graph: onnx.IGraphProto, { device = "cpu", threads }: ProductDevice): Promise<InferenceSession> {
  const model = ModelProto.create({ irVersion: 8, opsetImport: [{ domain: "", version: 17 }], graph });
  return openSession(
    ModelProto.encode(model).finish(),
    device,
    threads === undefined ? {} : { intraOpNumThreads: threads },
  );
}

/**
 * Accumulates Σ g̃_i g̃_iᵀ block by block. `add` takes [rows, R] float32; `blocks` are the sums so far, [r, r] float64 each.
 */
export async function openGramAccumulator(blocks: readonly Block[], dimension: number, where: ProductDevice = {}) {
  const { nodes, constants } = blockNodes(blocks);
  const session = await sessionOf(
    {
      name: "gram",
      input: [
        valueInfo("gradients", DataType.FLOAT, ["rows", dimension]),
        ...blocks.map(({ r }, b) => valueInfo(`before_${b}`, DataType.DOUBLE, [r, r])),
      ],
      output: blocks.map(({ r }, b) => valueInfo(`after_${b}`, DataType.DOUBLE, [r, r])),
      initializer: constants,
      node: [
        ...nodes,
        ...blocks.map((_, b) => ({
          opType: "Gemm",
          input: [`block_${b}`, `block_${b}`, `before_${b}`],
          output: [`after_${b}`],
          attribute: [{ name: "transA", type: AttributeProto.AttributeType.INT, i: 1 }],
        })),
      ],
    },
    where,
  );
  const sums: Float64Array[] = blocks.map(({ r }) => new Float64Array(r * r));
  return {
    add: async (gradients: Float32Array, rows: number): Promise<void> => {
      const feeds: Record<string, Tensor> = { gradients: new Tensor("float32", gradients, [rows, dimension]) };
      blocks.forEach(({ r }, b) => {
        feeds[`before_${b}`] = new Tensor("float64", sums[b] ?? [], [r, r]);
      });
      const outputs = await session.run(feeds);
      blocks.forEach((_, b) => {
        const after = outputs[`after_${b}`]?.data;
        if (!(after instanceof Float64Array)) throw new Error("gram: expected float64 sums");
        letGo(sums[b]!);
        sums[b] = after;
      });
    },
    sums,
    release: () => session.release(),
  };
}

/** Frees what an array lies in, at once: the collector would let hundreds of megabytes of results wait. */
function letGo({ buffer }: Float32Array | Float64Array): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/**
 * Multiplies each block of the gradients by its matrix: [rows, R] float32 → [rows, R] float32, products in float64; the result
 * is valid until the next product. `matrices`: [r, r] float64 each, row-major.
 */
export async function openBlockProduct(
  blocks: readonly Block[],
  matrices: readonly Float64Array[],
  dimension: number,
  where: ProductDevice = {},
) {
  const { nodes, constants } = blockNodes(blocks);
  const session = await sessionOf(
    {
      name: "precondition",
      input: [
        valueInfo("gradients", DataType.FLOAT, ["rows", dimension]),
        ...blocks.map(({ r }, b) => valueInfo(`matrix_${b}`, DataType.DOUBLE, [r, r])),
      ],
      output: [valueInfo("product", DataType.FLOAT, ["rows", dimension])],
      initializer: constants,
      node: [
        ...nodes,
        ...blocks.map((_, b) => ({ opType: "MatMul", input: [`block_${b}`, `matrix_${b}`], output: [`product_${b}`] })),
        {
          opType: "Concat",
          input: blocks.map((_, b) => `product_${b}`),
          output: ["wide"],
          attribute: [{ name: "axis", type: AttributeProto.AttributeType.INT, i: 1 }],
        },
        {
          opType: "Cast",
          input: ["wide"],
          output: ["product"],
          attribute: [{ name: "to", type: AttributeProto.AttributeType.INT, i: DataType.FLOAT }],
        },
      ],
    },
    where,
  );
  const fixed = Object.fromEntries(
    blocks.map(({ r }, b) => [`matrix_${b}`, new Tensor("float64", matrices[b] ?? [], [r, r])] as const),
  );
  let last: Float32Array = new Float32Array();
  return {
    multiply: async (gradients: Float32Array, rows: number): Promise<Float32Array> => {
      const outputs = await session.run({ ...fixed, gradients: new Tensor("float32", gradients, [rows, dimension]) });
      const product = outputs.product?.data;
      if (!(product instanceof Float32Array)) throw new Error("precondition: expected a float32 product");
      letGo(last);
      last = product;
      return product;
    },
    release: () => session.release(),
  };
}
