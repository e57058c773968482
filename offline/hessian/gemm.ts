/** Dense float64 products through onnxruntime: α · op(A) op(B) + C. */
import onnxProto from "onnx-proto";
import { type InferenceSession, Tensor } from "onnxruntime-node";
import { openSession } from "../gradients/session.ts";
import type { ProductDevice } from "./matrix.ts";

const { AttributeProto, ModelProto, TensorProto } = onnxProto.onnx;

/** A [rows, columns] matrix, row-major. */
export interface Matrix {
  values: Float64Array;
  rows: number;
  columns: number;
}

export interface GemmForm {
  transA?: boolean;
  transB?: boolean;
  alpha?: number;
}

export interface Gemm {
  /** α · op(A) op(B) + C; without C, α · op(A) op(B). The result is a new array. */
  multiply(form: GemmForm, a: Matrix, b: Matrix, c?: Float64Array): Promise<Float64Array>;
  release(): Promise<void>;
}

function openForm(
  { transA = false, transB = false, alpha = 1 }: GemmForm,
  withC: boolean,
  { device = "cpu", threads }: ProductDevice,
): Promise<InferenceSession> {
  const matrix = (name: string, shape: string[]) => ({
    name,
    type: {
      tensorType: { elemType: TensorProto.DataType.DOUBLE, shape: { dim: shape.map((dimParam) => ({ dimParam })) } },
    },
  });
  const { INT, FLOAT } = AttributeProto.AttributeType;
  const model = ModelProto.create({
    irVersion: 8,
    opsetImport: [{ domain: "", version: 17 }],
    graph: {
      name: "gemm",
      input: [
        matrix("a", transA ? ["k", "m"] : ["m", "k"]),
        matrix("b", transB ? ["n", "k"] : ["k", "n"]),
        ...(withC ? [matrix("c", ["m", "n"])] : []),
      ],
      output: [matrix("y", ["m", "n"])],
      node: [
        {
          opType: "Gemm",
          input: withC ? ["a", "b", "c"] : ["a", "b"],
          output: ["y"],
          attribute: [
            { name: "transA", type: INT, i: transA ? 1 : 0 },
            { name: "transB", type: INT, i: transB ? 1 : 0 },
            { name: "alpha", type: FLOAT, f: alpha },
          ],
        },
      ],
    },
  });
  return openSession(
    ModelProto.encode(model).finish(),
    device,
    threads === undefined ? {} : { intraOpNumThreads: threads },
  );
}

/** One session per form, made when first needed. */
export function openGemm(where: ProductDevice = {}): Gemm {
  const sessions = new Map<string, InferenceSession>();
  const tensor = ({ values, rows, columns }: Matrix) => new Tensor("float64", values, [rows, columns]);
  return {
    multiply: async (form, a, b, c) => {
      const key = JSON.stringify([form, c !== undefined]);
      const session = sessions.get(key) ?? (await openForm(form, c !== undefined, where));
      sessions.set(key, session);
      const m = form.transA ? a.columns : a.rows;
      const n = form.transB ? b.rows : b.columns;
      const feeds = { a: tensor(a), b: tensor(b), ...(c ? { c: tensor({ values: c, rows: m, columns: n }) } : {}) };
      const { y } = await session.run(feeds);
      if (!(y?.data instanceof Float64Array)) throw new Error("gemm: expected a float64 product");
      return y.data;
    },
    release: async () => {
      for (const session of sessions.values()) await session.release();
    },
  };
}
