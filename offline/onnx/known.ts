/** Arithmetic on the contents of small integer values that are known before running: the shapes that a model computes. */
import { type Dim, floorQuotient, minus, plus, productOf, times } from "./dims.ts";
import type { Node, Value } from "./graph.ts";

/** Entry by entry over operands of one length, or of one entry. */
function zip(values: readonly Value[], combine: (entries: Dim[]) => Dim | null): Dim[] | null {
  const length = Math.max(...values.map((value) => value.known?.length ?? 0));
  const result: Dim[] = [];
  for (let index = 0; index < length; index++) {
    const entries = values.map((value) => (value.known?.length === 1 ? value.known[0] : value.known?.[index]));
    const combined = entries.every((entry) => entry !== undefined) ? combine(entries) : null;
    if (combined === null) return null;
    result.push(combined);
  }
  return result;
}

const extreme = (pick: (...numbers: number[]) => number) => (entries: Dim[]) =>
  entries.every((entry) => typeof entry === "number") ? pick(...entries) : null;

/** Contents of Add, Sub, Mul, Div, Min, Max, Mod, Where, And, Or on known integers, else null. */
export function foldArithmetic(node: Node, values: readonly Value[]): Dim[] | null {
  if (!values.every((value) => value.known && value.shape.length < 2)) return null;
  switch (node.op) {
    case "Add":
      return zip(values, ([a = 0, b = 0]) => plus(a, b));
    case "Sub":
      return zip(values, ([a = 0, b = 0]) => minus(a, b));
    case "Mul":
      return zip(values, ([a = 0, b = 0]) => times(a, b));
    case "Div":
      return zip(values, ([a = 0, b = 0]) =>
        typeof a === "number" && typeof b === "number" ? Math.trunc(a / b) : floorQuotient(a, b),
      );
    case "Mod":
      return zip(values, ([a, b]) => (typeof a === "number" && typeof b === "number" ? ((a % b) + b) % b : null));
    case "Min":
      return zip(values, extreme(Math.min));
    case "Max":
      return zip(values, extreme(Math.max));
    case "And":
      return zip(values, extreme(Math.min));
    case "Or":
      return zip(values, extreme(Math.max));
    case "Where":
      return zip(values, ([condition, a = 0, b = 0]) => (typeof condition === "number" ? (condition ? a : b) : null));
    default:
      return null;
  }
}

/** Contents of a comparison of known integers. An extent that is only named is taken to differ from any number below 1. */
export function foldComparison(node: Node, values: readonly Value[]): Dim[] | null {
  if (!values.every((value) => value.known && value.shape.length < 2)) return null;
  const compare = (decide: (a: number, b: number) => boolean) =>
    zip(values, ([a, b]) => (typeof a === "number" && typeof b === "number" ? Number(decide(a, b)) : null));
  switch (node.op) {
    case "Equal":
      return zip(values, ([a, b]) => {
        if (a === b) return 1;
        if (typeof a === "number" && typeof b === "number") return 0;
        return (typeof a === "number" && a < 1) || (typeof b === "number" && b < 1) ? 0 : null;
      });
    case "Less":
      return compare((a, b) => a < b);
    case "LessOrEqual":
      return compare((a, b) => a <= b);
    case "Greater":
      return compare((a, b) => a > b);
    case "GreaterOrEqual":
      return compare((a, b) => a >= b);
    case "Not":
      return zip(values, ([a]) => (typeof a === "number" ? 1 - a : null));
    default:
      return null;
  }
}

/** Contents of a small value filled with one entry. */
export function filledWith(entry: Dim | undefined, shape: readonly Dim[]): Dim[] | null {
  const count = productOf(shape);
  return typeof count === "number" && count <= 64 && entry !== undefined
    ? Array.from({ length: count }, () => entry)
    : null;
}

/** Index lists of every entry of a shape, in row-major order. */
const indices = (shape: readonly number[]): number[][] =>
  shape.reduce<number[][]>(
    (all, extent) => all.flatMap((i) => Array.from({ length: extent }, (_, at) => [...i, at])),
    [[]],
  );

/** Contents picked by index from a known value. */
function pick(x: Value, chosen: readonly number[][]): Dim[] | null {
  const { known, shape } = x;
  if (!known || !shape.every((dim) => typeof dim === "number")) return null;
  const at = (index: number[]) => index.reduce((position, i, axis) => position * Number(shape[axis]) + i, 0);
  return chosen.flatMap((index) => known[at(index)] ?? []);
}

/** Contents of a slice of a known value. */
export function foldSlice(
  x: Value,
  parts: readonly { axis: number; start: Dim; end: Dim; step: number }[],
): Dim[] | null {
  if (!x.known || !x.shape.every((dim) => typeof dim === "number")) return null;
  const kept = x.shape.map((extent) => Array.from({ length: extent }, (_, at) => at));
  for (const { axis, start, end, step } of parts) {
    const extent = x.shape[axis] ?? 0;
    if (typeof start !== "number" || typeof end !== "number") return null;
    kept[axis] = slicePositions(extent, start, end, step);
  }
  return pick(
    x,
    indices(kept.map((positions) => positions.length)).map((index) => index.map((i, axis) => kept[axis]?.[i] ?? 0)),
  );
}

/** Contents of a known value with its axes reordered. */
export function foldTranspose(x: Value, order: readonly number[]): Dim[] | null {
  if (!x.known || !x.shape.every((dim) => typeof dim === "number")) return null;
  const shape = order.map((axis) => Number(x.shape[axis]));
  return pick(
    x,
    indices(shape).map((index) => order.map((_, axis) => index[order.indexOf(axis)] ?? 0)),
  );
}

/** The positions that start, end and step choose of an axis, as ONNX's Slice clamps them. */
export function slicePositions(extent: number, start: number, end: number, step: number): number[] {
  const low = step < 0 ? -1 : 0;
  const high = step < 0 ? extent - 1 : extent;
  const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + extent : at, low), high);
  const stop = end < -extent ? low : clamp(end);
  const kept: number[] = [];
  for (let at = clamp(start); step > 0 ? at < stop : at > stop; at += step) kept.push(at);
  return kept;
}

/** The truth of an If's condition, or null if it depends on what is fed. */
export const conditionOf = (value: Value): boolean | null =>
  value.known?.length === 1 && typeof value.known[0] === "number" ? value.known[0] !== 0 : null;
