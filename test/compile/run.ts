/** Running a compiled graph on examples, and comparing. */
import * as ort from "onnxruntime-node";
import type { CompiledGradient } from "../../offline/compile/compile.ts";
import type { Array64 } from "./safetensors.ts";

const LOADS = new Map<string, (array: Array64) => ort.Tensor>([
  ["float32", ({ data, shape }) => new ort.Tensor("float32", Float32Array.from(data), shape)],
  ["int64", ({ data, shape }) => new ort.Tensor("int64", BigInt64Array.from(data, BigInt), shape)],
  ["int32", ({ data, shape }) => new ort.Tensor("int32", Int32Array.from(data), shape)],
  ["bool", ({ data, shape }) => new ort.Tensor("bool", Uint8Array.from(data), shape)],
]);

/** The inputs (and target) of a compiled graph, from named arrays. */
export function feedsOf(
  compiled: CompiledGradient,
  arrays: ReadonlyMap<string, Array64>,
  rows?: [number, number],
): Record<string, ort.Tensor> {
  const ports = compiled.target ? [...compiled.inputs, compiled.target] : compiled.inputs;
  return Object.fromEntries(
    ports.map(({ name, type }) => {
      const array = arrays.get(name);
      const load = LOADS.get(type);
      if (!array || !load) throw new Error(`input ${name} of type ${type}: expected an array for it, got none`);
      return [name, load(rows ? rowsOf(array, rows) : array)];
    }),
  );
}

function rowsOf({ dtype, shape, data }: Array64, [start, end]: [number, number]): Array64 {
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  return { dtype, shape: [end - start, ...shape.slice(1)], data: data.slice(start * width, end * width) };
}

export interface Result {
  loss: Float32Array;
  /** [B, R]. */
  gradient: Float32Array;
}

const floats = (tensor: ort.Tensor | undefined): Float32Array => {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw new Error(`output: expected float32, got ${tensor?.type}`);
};

/** Runs a graph, given as bytes or as its file's path (beside which external data lie). */
export async function runner(graph: Uint8Array | string, options: ort.InferenceSession.SessionOptions = {}) {
  const settings = { intraOpNumThreads: 2, logSeverityLevel: 3, ...options } as const;
  const session =
    typeof graph === "string"
      ? await ort.InferenceSession.create(graph, settings)
      : await ort.InferenceSession.create(graph, settings);
  return async (feeds: Record<string, ort.Tensor>): Promise<Result> => {
    const { loss, gradient } = await session.run(feeds, ["loss", "gradient"]);
    return { loss: floats(loss), gradient: floats(gradient) };
  };
}

/** ‖got − expected‖ / ‖expected‖. */
export function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [difference, norm] = [0, 0];
  for (let index = 0; index < expected.length; index++) {
    const [a, b] = [got[index] ?? Number.NaN, expected[index] ?? Number.NaN];
    difference += (a - b) ** 2;
    norm += b ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}

export const norm = (entries: readonly number[]): number =>
  Math.sqrt(entries.reduce((sum, entry) => sum + entry * entry, 0));
