/** Gradients of operators that move entries about without changing them. */
import { type Dim, plus, times } from "../../onnx/dims.ts";
import { integer, text, type Value, where } from "../../onnx/graph.ts";
import { normalAxis } from "../../onnx/infer/context.ts";
import { permutation, sliceOf, splitSizes } from "../../onnx/infer/moves.ts";
import { slicePositions } from "../../onnx/known.ts";
import type { Rule, RuleContext } from "../rule.ts";

/** Back to the shape before. */
const reshaped: Rule = (c) => [() => c.b.reshape(c.d, c.x(0).shape), null];

const inverse = (order: readonly number[]): number[] => order.map((_, axis) => order.indexOf(axis));

const concat: Rule = (c) => {
  const axis = normalAxis(integer(c.node, "axis", 0), c.d.shape.length);
  let start: Dim = 0;
  return c.node.inputs.map((_, index) => {
    const from = start;
    start = plus(from, c.x(index).shape[axis] ?? 0);
    const end = start;
    return () => c.b.slice(c.d, [{ axis, start: from, end }]);
  });
};

const split: Rule = (c) => [
  () => {
    const axis = normalAxis(integer(c.node, "axis", 0), c.x(0).shape.length);
    const sizes = splitSizes(c, c.x(0).shape[axis] ?? 1);
    const parts = c.ds.map((d, index) => {
      const shape = c.x(0).shape.map((dim, a) => (a === axis ? (sizes[index] ?? 1) : dim));
      return d ?? c.b.filled(0, shape, c.x(0));
    });
    return c.b.concat(parts, axis);
  },
  null,
];

/** The slice's cotangent surrounded by zeros; steps are undone by interleaving zeros. */
const slice: Rule = (c) => [
  () => {
    const { b } = c;
    const x = c.x(0);
    const parts = sliceOf(c, x.shape.length);
    if (!parts) return sliceAtRunTime(c);
    return parts.reduce((d, { axis, start, end, step }) => {
      const extent = x.shape[axis] ?? 1;
      if (d.shape[axis] === extent && step === 1) return d;
      if (step === 1 && typeof end === "number") {
        const from = typeof start === "number" && start < 0 ? plus(extent, start) : start;
        const after = plus(plus(extent, times(from, -1)), times(d.shape[axis] ?? 0, -1));
        return b.pad(d, [{ axis, before: from, after }]);
      }
      if (typeof extent !== "number" || typeof start !== "number" || typeof end !== "number") {
        throw new Error(
          `${where(c.node)}: expected constant bounds of a slice with steps, got an axis of extent ${extent}`,
        );
      }
      const positions = Array.from({ length: extent }, (_, position) => position);
      const kept = slicePositions(extent, start, end, step);
      const zeros = b.filled(
        0,
        d.shape.map((dim, a) => (a === axis ? 1 : dim)),
        d,
      );
      const source = positions.map((position) => (kept.includes(position) ? kept.indexOf(position) : kept.length));
      return b.gather(b.concat([d, zeros], axis), source, axis);
    }, c.d);
  },
  null,
  null,
  null,
  null,
];

/** Bounds that are only known while running: pads by (start, extent − start − kept), for step 1 and starts that are not negative. */
function sliceAtRunTime(c: RuleContext) {
  const { b } = c;
  const x = c.x(0);
  const count = c.x(1).shape[0];
  const axes = c.optional(3) ? c.constant(3) : Array.from({ length: Number(count) }, (_, axis) => axis);
  const unit = !c.optional(4) || c.constant(4)?.every((step) => step === 1);
  if (!axes || !unit)
    throw new Error(`${where(c.node)}: expected constant axes and steps of 1, got others; export with a fixed slice`);
  const named = axes.map((axis) => normalAxis(axis, x.shape.length));
  const zero = b.ints([0]);
  const around = named.map((axis, index) => {
    const start = b.gather(c.x(1), [index]);
    const extent = b.extent(x.shape[axis] ?? 1);
    const before = b.where(b.op("Less", [start, zero]), b.add(start, extent), start);
    return { axis, before, after: b.sub(b.sub(extent, before), b.extent(c.d.shape[axis] ?? 1)) };
  });
  return b.reshape(b.pad(c.d, around), x.shape);
}

const pad: Rule = (c) => [
  () => {
    const { b } = c;
    const x = c.x(0);
    const amounts = c.constant(1);
    const axes = (c.optional(3) ? c.constant(3) : x.shape.map((_, axis) => axis))?.map((a) =>
      normalAxis(a, x.shape.length),
    );
    const mode = text(c.node, "mode", "constant");
    if (!amounts || !axes) {
      throw new Error(
        `${where(c.node)}: expected fixed amounts of padding, got computed ones; export with fixed padding`,
      );
    }
    if (mode !== "constant") return paddedFromInside(c, mode, axes, amounts);
    let d = c.d;
    // What padding added is dropped; what negative padding dropped has no influence.
    axes.forEach((axis, index) => {
      const [begin, end] = [amounts[index] ?? 0, amounts[index + axes.length] ?? 0];
      if (begin > 0 || end > 0) {
        const last = plus(d.shape[axis] ?? 1, -Math.max(end, 0));
        d = b.slice(d, [{ axis, start: Math.max(begin, 0), end: last }]);
      }
      if (begin < 0 || end < 0) d = b.pad(d, [{ axis, before: Math.max(-begin, 0), after: Math.max(-end, 0) }]);
    });
    return d;
  },
  null,
  null,
  null,
];

/** Reflected, repeated and wrapped edges: along each axis y = M·x with M a matrix of ones, so x̄ = Mᵀ·ȳ. */
function paddedFromInside(c: RuleContext, mode: string, axes: number[], amounts: number[]) {
  return axes.reduce((d, axis, index) => {
    const [begin, end] = [amounts[index] ?? 0, amounts[index + axes.length] ?? 0];
    const extent = c.x(0).shape[axis];
    if (begin === 0 && end === 0) return d;
    if (typeof extent !== "number")
      throw new Error(`${where(c.node)}: expected a fixed size to pad, got ${extent}; export with a fixed size`);
    const out = extent + begin + end;
    const matrix = new Array<number>(out * extent).fill(0);
    for (let position = 0; position < out; position++)
      matrix[position * extent + sourceOf(mode, position - begin, extent)] = 1;
    return alongAxis(c, d, axis, c.b.constant(1, [out, extent], matrix));
  }, c.d);
}

function sourceOf(mode: string, at: number, extent: number): number {
  if (mode === "wrap") return ((at % extent) + extent) % extent;
  if (mode === "edge") return Math.min(Math.max(at, 0), extent - 1);
  const period = Math.max(2 * (extent - 1), 1);
  const folded = ((at % period) + period) % period;
  return folded < extent ? folded : period - folded;
}

/** d·M along one axis. */
export function alongAxis(c: RuleContext, d: Value, axis: number, matrix: Value): Value {
  const { b } = c;
  const last = d.shape.length - 1;
  const order = d.shape.map((_, a) => (a === axis ? last : a === last ? axis : a));
  return b.transpose(b.op("MatMul", [b.transpose(d, order), b.cast(matrix, d.type)]), order);
}

/** Sums over the copies: [.., r·n, ..] as [.., r, n, ..]. */
const tile: Rule = (c) => [
  () => {
    const repeats = c.constant(1);
    if (!repeats)
      throw new Error(`${where(c.node)}: expected constant repeats, got computed ones; export with fixed repeats`);
    const shape = c.x(0).shape.flatMap((dim, axis) => [repeats[axis] ?? 1, dim]);
    const copies = c.b.reshape(c.d, shape);
    return c.b.sum(
      copies,
      c.x(0).shape.map((_, axis) => 2 * axis),
    );
  },
  null,
];

export const SHAPE: Record<string, Rule> = {
  Reshape: reshaped,
  Flatten: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,
  Transpose: (c) => [() => c.b.transpose(c.d, inverse(permutation(c.node, c.d.shape.length)))],
  Concat: concat,
  Split: split,
  Slice: slice,
  Pad: pad,
  Tile: tile,
};
