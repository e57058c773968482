/** Arithmetic on the contents of small integer values that are known before running: the shapes that a model computes. */
import { type Dim, floorQuotient, minus, plus, times } from "./dims.ts";
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

/** Contents of a slice of a known list. */
export function foldSlice(x: Value, parts: readonly { start: Dim; end: Dim; step: number }[]): Dim[] | null {
  const [part] = parts;
  if (!x.known || x.shape.length !== 1 || !part) return null;
  const { start, end, step } = part;
  if (typeof start !== "number" || typeof end !== "number" || step !== 1) return null;
  return x.known.slice(start, Math.min(end, x.known.length));
}

/** The truth of an If's condition, or null if it depends on what is fed. */
export const conditionOf = (value: Value): boolean | null =>
  value.known?.length === 1 && typeof value.known[0] === "number" ? value.known[0] !== 0 : null;
