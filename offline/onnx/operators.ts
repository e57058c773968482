/** The operators that the compiler itself adds, as functions of values. What would change nothing is left out. */
import type { Dim } from "./dims.ts";
import { ELEMENT, type Value } from "./graph.ts";
import type { GrowingGraph } from "./growing-graph.ts";

/** A growing graph and its operators: all that a decomposition needs. */
export type Operators = GrowingGraph & ReturnType<typeof operatorsOn>;

export function operatorsOn({ op, constant, ints, extent }: GrowingGraph) {
  /** A number of the element type of `like`, of rank 0. */
  function scalar(entry: number, like: Value): Value {
    if (like.type === ELEMENT.float16 || like.type === ELEMENT.bfloat16) {
      return op("Cast", [constant(ELEMENT.float32, [], [entry])], { to: like.type });
    }
    return constant(like.type, [], [entry]);
  }

  function shape(dims: readonly Dim[]): Value {
    if (dims.every((dim) => typeof dim === "number")) return ints(dims);
    return dims.length === 1 ? extent(dims[0] ?? 1) : op("Concat", dims.map(extent), { axis: 0 });
  }

  function reshape(x: Value, dims: readonly Dim[]): Value {
    if (x.shape.length === dims.length && dims.every((dim, axis) => dim === x.shape[axis])) return x;
    const open = dims.filter((dim) => typeof dim !== "number");
    const target = open.length < 2 ? ints(dims.map((dim) => (typeof dim === "number" ? dim : -1))) : shape(dims);
    return op("Reshape", [x, target]);
  }

  function transpose(x: Value, order: readonly number[]): Value {
    return order.every((axis, index) => axis === index) ? x : op("Transpose", [x], { perm: [...order] });
  }

  function sum(x: Value, axes: readonly number[], keep = false): Value {
    return axes.length === 0 ? x : op("ReduceSum", [x, ints([...axes])], { keepdims: keep ? 1 : 0 });
  }

  const gather = (x: Value, indices: ArrayLike<number>, axis = 0): Value => op("Gather", [x, ints(indices)], { axis });

  /** [start, end) of each axis with the step. */
  function slice(x: Value, cuts: readonly { axis: number; start: Dim; end: Dim; step?: number }[]): Value {
    if (cuts.length === 0) return x;
    return op("Slice", [
      x,
      shape(cuts.map((cut) => cut.start)),
      shape(cuts.map((cut) => cut.end)),
      ints(cuts.map((cut) => cut.axis)),
      ints(cuts.map((cut) => cut.step ?? 1)),
    ]);
  }

  /**
   * Zeros (or `fill`) before and after along axes; amounts are extents, or int64 values of one entry. All axes are written out: onnxruntime
   * reorders the amounts wrongly when it moves a Transpose through a Pad that names its axes.
   */
  function pad(
    x: Value,
    around: readonly { axis: number; before: Dim | Value; after: Dim | Value }[],
    fill = 0,
  ): Value {
    const amount = (axis: number, side: "before" | "after") => around.find((a) => a.axis === axis)?.[side] ?? 0;
    const sides = (["before", "after"] as const).flatMap((side) => x.shape.map((_, axis) => amount(axis, side)));
    if (sides.every((side) => side === 0)) return x;
    const fixed = sides.every((side) => typeof side === "number");
    const amounts = fixed
      ? ints(sides)
      : concat(
          sides.map((side) => (typeof side === "object" ? side : extent(side))),
          0,
        );
    return op("Pad", [x, amounts, scalar(fill, x)]);
  }

  const concat = (parts: readonly Value[], axis: number): Value => {
    const [only] = parts;
    return only && parts.length === 1 ? only : op("Concat", parts, { axis });
  };

  /** Values of one entry or shape `dims`, filled. */
  function filled(entry: number, dims: readonly Dim[], like: Value): Value {
    return op("Expand", [scalar(entry, like), shape(dims)]);
  }

  return {
    scalar,
    shape,
    reshape,
    transpose,
    sum,
    gather,
    slice,
    pad,
    concat,
    filled,
    add: (a: Value, b: Value) => op("Add", [a, b]),
    sub: (a: Value, b: Value) => op("Sub", [a, b]),
    mul: (a: Value, b: Value) => op("Mul", [a, b]),
    div: (a: Value, b: Value) => op("Div", [a, b]),
    neg: (a: Value) => op("Neg", [a]),
    /** a · c for a number c. */
    scaled: (a: Value, factor: number) => (factor === 1 ? a : op("Mul", [a, scalar(factor, a)])),
    /** a + c for a number c. */
    shifted: (a: Value, by: number) => (by === 0 ? a : op("Add", [a, scalar(by, a)])),
    cast: (a: Value, type: number) => (a.type === type ? a : op("Cast", [a], { to: type })),
    where: (condition: Value, a: Value, b: Value) => op("Where", [condition, a, b]),
  };
}
