/** Numbers of a dataset as the tensors that a model takes. */
import { Tensor } from "onnxruntime-node";
import type { TensorSpec } from "../compile/tensor-spec.ts";

/** Divided values: loops, because `from` with a function takes ten times as long. */
function divided<T extends Float32Array | Float64Array>(
  into: T,
  values: ArrayLike<number> | ArrayLike<bigint>,
  divideBy: number,
): T {
  for (let i = 0; i < into.length; i++) into[i] = Number(values[i]) / divideBy;
  return into;
}

/** A tensor of the model's element type; each value is divided by `divideBy`. Throws an Error for a type that numbers cannot give. */
export function tensorOf(
  spec: TensorSpec,
  values: ArrayLike<number> | ArrayLike<bigint>,
  dims: number[],
  divideBy = 1,
): Tensor {
  const source: ArrayLike<number | bigint> = values;
  switch (spec.type) {
    case "float32":
      if (values instanceof Float32Array && divideBy === 1) return new Tensor("float32", values, dims);
      return new Tensor("float32", divided(new Float32Array(values.length), values, divideBy), dims);
    case "float64":
      return new Tensor("float64", divided(new Float64Array(values.length), values, divideBy), dims);
    case "int64":
      return new Tensor("int64", BigInt64Array.from(source, BigInt), dims);
    case "int32":
      return new Tensor("int32", Int32Array.from(source, Number), dims);
    case "uint8":
      return new Tensor("uint8", Uint8Array.from(source, Number), dims);
    case "bool":
      return new Tensor(
        "bool",
        Uint8Array.from(source, (value) => (value ? 1 : 0)),
        dims,
      );
    default:
      throw new Error(
        `${spec.name}: the model takes ${spec.type}; expected float32, float64, int64, int32, uint8 or bool`,
      );
  }
}

/** Lists as one [rows, longest] tensor: `value` of each number, `pad` after each list's end. A length that the model fixes is kept: no list is longer. */
export function padded(
  spec: TensorSpec,
  lists: readonly number[][],
  value: (number: number) => number,
  pad: number,
): Tensor {
  const fixed = spec.shape[1];
  const longest = typeof fixed === "number" ? fixed : lists.reduce((most, list) => Math.max(most, list.length), 1);
  const values = new Float64Array(lists.length * longest).fill(pad);
  lists.forEach((list, row) => {
    list.forEach((number, column) => {
      values[row * longest + column] = value(number);
    });
  });
  return tensorOf(spec, values, [lists.length, longest]);
}
