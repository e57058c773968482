/** The axes of a value brought into the order that gathering and summing need: rows, examples, positions. */
import type { Builder } from "../onnx/builder.ts";
import { type Dim, quotient } from "../onnx/dims.ts";
import type { Value } from "../onnx/graph.ts";
import { fixed, numberOf } from "./per-example.ts";

/** `value` with a batch axis of extent 1 before, if it is the same for all examples. */
const withBatchAxis = (b: Builder, value: Value, rowAxes: readonly number[]): [Value, number[]] =>
  value.batch ? [value, [...rowAxes]] : [b.reshape(value, [1, ...value.shape]), rowAxes.map((axis) => axis + 1)];

/** `value` cut so that its batch axis is [outer, B, inner], without the cuts of extent 1; and where each old axis went. */
function cut(b: Builder, value: Value): { value: Value; batch: number; axes: number[][] } {
  const place = value.batch;
  if (!place) return { value, batch: 0, axes: value.shape.map((_, axis) => [axis]) };
  const dim = value.shape[place.axis] ?? 1;
  const outer = quotient(quotient(dim, place.inner) ?? dim, b.batch) ?? 1;
  const pieces: Dim[] = [];
  if (outer !== 1) pieces.push(outer);
  pieces.push(b.batch);
  if (place.inner !== 1) pieces.push(place.inner);
  const before = value.shape.slice(0, place.axis);
  const after = value.shape.slice(place.axis + 1);
  const axes = value.shape.map((_, axis) => {
    if (axis < place.axis) return [axis];
    return axis > place.axis ? [axis + pieces.length - 1] : pieces.map((_, piece) => place.axis + piece);
  });
  return {
    value: b.reshape(value, [...before, ...pieces, ...after]),
    batch: place.axis + (outer === 1 ? 0 : 1),
    axes,
  };
}

/** [rows, B, ...positions]: the given axes as rows, then the examples (extent 1 if all alike), then every other axis of extent above 1. */
export function rowsFirst(b: Builder, value: Value, rowAxes: readonly number[]): Value {
  const [placed, placedAxes] = withBatchAxis(b, value, rowAxes);
  const { value: split, batch, axes } = cut(b, placed);
  const rows = placedAxes.flatMap((axis) => axes[axis] ?? []);
  const rest = split.shape.map((_, axis) => axis).filter((axis) => axis !== batch && !rows.includes(axis));
  const moved = b.transpose(split, [...rows, batch, ...rest]);
  const positions = rest.map((axis) => split.shape[axis] ?? 1).filter((dim) => dim !== 1);
  return b.reshape(moved, [
    numberOf(fixed(rows.map((axis) => split.shape[axis] ?? 1))),
    split.shape[batch] ?? 1,
    ...positions,
  ]);
}

/** [B, rows, positions]. */
export function examplesFirst(b: Builder, value: Value, rowAxes: readonly number[]): Value {
  const [placed, placedAxes] = withBatchAxis(b, value, rowAxes);
  const { value: split, batch, axes } = cut(b, placed);
  const rows = placedAxes.flatMap((axis) => axes[axis] ?? []);
  const rest = split.shape.map((_, axis) => axis).filter((axis) => axis !== batch && !rows.includes(axis));
  const moved = b.transpose(split, [batch, ...rows, ...rest]);
  const count = numberOf(fixed(rows.map((axis) => split.shape[axis] ?? 1)));
  const positions = rest.map((axis) => split.shape[axis] ?? 1);
  if (positions.every((dim) => typeof dim === "number"))
    return b.reshape(moved, [split.shape[batch] ?? 1, count, numberOf(positions)]);
  return b.op("Reshape", [moved, b.ints([0, count, -1])], { allowzero: 0 });
}

/** A cotangent summed over all axes that `target` broadcasts, and over each example's positions: [B, ...target]. */
export function summedPerExample(b: Builder, g: Value, target: readonly Dim[]): Value {
  const { value, batch, axes } = cut(b, g);
  const kept = keptAxes(g, target).flatMap((axis) => axes[axis] ?? []);
  const summed = value.shape.flatMap((dim, axis) => (axis === batch || kept.includes(axis) || dim === 1 ? [] : [axis]));
  const reduced = b.sum(value, summed, true);
  const order = [batch, ...value.shape.flatMap((_, axis) => (axis === batch ? [] : [axis]))];
  return b.reshape(b.transpose(reduced, order), [b.batch, ...target]);
}

/** The axes of a cotangent, besides that of the examples, that are not summed on the way to `target`. */
function keptAxes(g: Value, target: readonly Dim[]): number[] {
  const lead = g.shape.length - target.length;
  return g.shape.flatMap((_, axis) =>
    axis >= lead && (target[axis - lead] ?? 1) !== 1 && axis !== g.batch?.axis ? [axis] : [],
  );
}

/** Positions from which on one dot product costs less than writing the products and summing them: measured 64 to 256. */
const LONG_SUM = 128;

/**
 * `summedPerExample` of the product d · x. Where many positions lie innermost, as behind a convolution, each sum is one dot product,
 * and the product is not written.
 */
export function summedProduct(b: Builder, d: Value, x: Value, target: readonly Dim[]): Value {
  const kept = keptAxes(d, target);
  const [batch, ...rest] = d.shape;
  const innermost = kept.every((axis, at) => axis === at + 1) && rest.length > kept.length;
  const alike = x.shape.length === d.shape.length && x.shape.every((dim, axis) => dim === d.shape[axis]);
  const placed = [d, x].every((v) => v.batch?.axis === 0 && v.batch.inner === 1);
  const known = rest.every((dim) => typeof dim === "number");
  const [channels, positions] = known ? [rest.slice(0, kept.length), rest.slice(kept.length)].map(numberOf) : [];
  if (!innermost || !alike || !placed || batch !== b.batch || !channels || !positions || positions < LONG_SUM)
    return summedPerExample(b, b.mul(d, x), target);
  const rows = (v: Value) => b.reshape(v, [b.batch, channels, 1, positions]);
  return b.reshape(b.op("MatMul", [rows(d), b.transpose(rows(x), [0, 1, 3, 2])]), [b.batch, ...target]);
}
