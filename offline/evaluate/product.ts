/** Dense products of the experiments, through onnxruntime on two threads: the size of machine that they are sized for. */
import onnxProto, { type onnx } from "onnx-proto";
import { InferenceSession, Tensor } from "onnxruntime-node";

const { AttributeProto, ModelProto, TensorProto } = onnxProto.onnx;
const { DataType } = TensorProto;
export const THREADS = 2;

/** work(0) … work(count − 1), begun in this order, as many at a time as there are threads; results in the same order. */
export async function sideBySide<Result>(count: number, work: (index: number) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const lane = async () => {
    for (let index = next++; index < count; index = next++) results[index] = await work(index);
  };
  await Promise.all(Array.from({ length: THREADS }, lane));
  return results;
}

const attribute = (name: string, i: number): onnx.IAttributeProto => ({
  name,
  type: AttributeProto.AttributeType.INT,
  i,
});

function port(name: string, elemType: number, shape: string[]): onnx.IValueInfoProto {
  return { name, type: { tensorType: { elemType, shape: { dim: shape.map((dimParam) => ({ dimParam })) } } } };
}

function open(graph: onnx.IGraphProto): Promise<InferenceSession> {
  const model = ModelProto.create({ irVersion: 8, opsetImport: [{ domain: "", version: 18 }], graph });
  return InferenceSession.create(ModelProto.encode(model).finish(), {
    executionProviders: ["cpu"],
    intraOpNumThreads: THREADS,
    logSeverityLevel: 3,
    // Shapes differ from call to call: an arena would keep the largest of each.
    enableCpuMemArena: false,
  });
}

const productSession = (double: boolean, transB: boolean) => {
  const type = double ? DataType.DOUBLE : DataType.FLOAT;
  return open({
    name: "product",
    input: [port("a", type, ["m", "k"]), port("b", type, transB ? ["n", "k"] : ["k", "n"])],
    output: [port("c", type, ["m", "n"])],
    node: [{ opType: "Gemm", input: ["a", "b"], output: ["c"], attribute: [attribute("transB", Number(transB))] }],
  });
};

/** Σ over columns from … to − 1 of a·bᵀ, widened to float64 before the product, added to `before`. */
const gramSession = () =>
  open({
    name: "gram",
    input: [
      port("a", DataType.FLOAT, ["m", "k"]),
      port("b", DataType.FLOAT, ["n", "k"]),
      port("from", DataType.INT64, ["one"]),
      port("to", DataType.INT64, ["one"]),
      port("before", DataType.DOUBLE, ["m", "n"]),
    ],
    output: [port("after", DataType.DOUBLE, ["m", "n"])],
    initializer: [{ name: "axis", dataType: DataType.INT64, dims: [1], int64Data: [1] }],
    node: [
      ...["a", "b"].flatMap((name) => [
        { opType: "Slice", input: [name, "from", "to", "axis"], output: [`${name}.cut`] },
        {
          opType: "Cast",
          input: [`${name}.cut`],
          output: [`${name}.wide`],
          attribute: [attribute("to", DataType.DOUBLE)],
        },
      ]),
      { opType: "Gemm", input: ["a.wide", "b.wide", "before"], output: ["after"], attribute: [attribute("transB", 1)] },
    ],
  });

const sessions = new Map<string, Promise<InferenceSession>>();

function cached(key: string, make: () => Promise<InferenceSession>): Promise<InferenceSession> {
  const found = sessions.get(key) ?? make();
  sessions.set(key, found);
  return found;
}

type Extents = readonly [m: number, k: number, n: number];

async function productOf(
  a: Tensor,
  b: Tensor,
  double: boolean,
  transposed: boolean,
): Promise<Tensor["data"] | undefined> {
  const session = await cached(`product ${double} ${transposed}`, () => productSession(double, transposed));
  return (await session.run({ a, b })).c?.data;
}

const batchSession = () =>
  open({
    name: "batch product",
    input: [port("a", DataType.FLOAT, ["m", "k"]), port("b", DataType.FLOAT, ["batch", "k", "n"])],
    output: [port("c", DataType.FLOAT, ["batch", "m", "n"])],
    node: [{ opType: "MatMul", input: ["a", "b"], output: ["c"] }],
  });

/** A·B_i of A [m, k] and each of the `count` matrices B_i [k, n] in float32: [count, m, n]. */
export async function productWithEach(a: Float32Array, b: Float32Array, [m, k, n]: Extents, count: number) {
  const session = await cached("batch", batchSession);
  const { c } = await session.run({
    a: new Tensor("float32", a, [m, k]),
    b: new Tensor("float32", b, [count, k, n]),
  });
  if (!(c?.data instanceof Float32Array)) throw new Error("batch product: expected a float32 result");
  return c.data;
}

const extentsOf = ([m, k, n]: Extents, transposed: boolean) => ({ a: [m, k], b: transposed ? [n, k] : [k, n] });

/** A·B of A [m, k] and B [k, n] (or, `transposed`, B given as [n, k]) in float32: [m, n]. */
export async function product32(a: Float32Array, b: Float32Array, extents: Extents, transposed = false) {
  const shape = extentsOf(extents, transposed);
  const c = await productOf(new Tensor("float32", a, shape.a), new Tensor("float32", b, shape.b), false, transposed);
  if (!(c instanceof Float32Array)) throw new Error("product: expected a float32 result");
  return c;
}

/** The same in float64. */
export async function product64(a: Float64Array, b: Float64Array, extents: Extents, transposed = false) {
  const shape = extentsOf(extents, transposed);
  const c = await productOf(new Tensor("float64", a, shape.a), new Tensor("float64", b, shape.b), true, transposed);
  if (!(c instanceof Float64Array)) throw new Error("product: expected a float64 result");
  return c;
}

const CHUNK = 4096;

/** Inner products of the rows of A [m, width] with those of B [n, width], both float32, in float64: [m, n]. */
export async function innerProducts(
  a: Float32Array,
  m: number,
  b: Float32Array,
  n: number,
  width: number,
): Promise<Float64Array> {
  const session = await cached("gram", gramSession);
  let sums: Float64Array = new Float64Array(m * n);
  for (let from = 0; from < width; from += CHUNK) {
    const { after } = await session.run({
      a: new Tensor("float32", a, [m, width]),
      b: new Tensor("float32", b, [n, width]),
      from: new Tensor("int64", [BigInt(from)], [1]),
      to: new Tensor("int64", [BigInt(Math.min(width, from + CHUNK))], [1]),
      before: new Tensor("float64", sums, [m, n]),
    });
    if (!(after?.data instanceof Float64Array)) throw new Error("inner products: expected float64 sums");
    sums = after.data;
  }
  return sums;
}
