/**
 * A parameter's gradient as one matrix G [rows, columns], of an example: Σ over positions t of left[:, t] ⊗ right[:, t], once for each use of
 * the parameter. Its entries uᵀ·G·v in other directions need each side turned by itself, and its covariances G·Gᵀ and Gᵀ·G the
 * two sides' inner products between positions; G never exists.
 */
import type { Builder } from "../onnx/builder.ts";
import { type Dim, productOf } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";

export interface Side {
  /** Rows, or columns, of G. */
  size: number;
  /**
   * The side in float32 directions [size, k], in the model's precision or float32: with k at `axes`; the other axes are the examples
   * (unless all are alike) and positions.
   */
  turned(directions: Value): { value: Value; axes: number[] };
  /** a [B, k, T], float32, times the side's inner products between positions [B, T, T]. */
  met(a: Value): Value;
  /** Σ over examples and positions of side[:, t] ⊗ a[:, t], of a [B, k, T], float32: [size, k]. */
  spread(a: Value): Value;
}

/** One use of a parameter. */
export interface Sides {
  left: Side;
  right: Side;
  scale: number;
  /** Whether the gradient is there whole anyway. */
  held: boolean;
  /** Of an example, an estimate. */
  positions: number;
}

/**
 * The matrix that a parameter of this shape is seen as: its first extent above 1 with those before it, and the product of the others.
 */
export function matrixExtents(shape: readonly number[]): [number, number] {
  const first = shape.findIndex((extent) => extent > 1);
  const rows = first < 0 ? 1 : (shape[first] ?? 1);
  return [rows, shape.reduce((a, extent) => a * extent, 1) / rows];
}

const swapped = (b: Builder, v: Value): Value => b.transpose(v, [0, 2, 1]);

/** Σ over a first axis that may be of extent 1. */
const overExamples = (b: Builder, v: Value): Value => b.sum(v, [0]);

/** Vectors [B (or 1), size, T], and how they are turned. */
export function vectors(b: Builder, size: number, given: () => Value, turned: Side["turned"]): Side {
  const rows = () => b.cast(given(), ELEMENT.float32);
  return {
    size,
    turned,
    met: (a) => {
      const own = rows();
      const [, k = 1, positions] = a.shape;
      const [count, wanted] = [typeof positions === "number" ? positions : 128, typeof k === "number" ? k : 1];
      // Through [B, T, T] or [B, k, size], whichever is less work.
      if (count * (size + wanted) < 2 * wanted * size)
        return b.op("MatMul", [a, b.op("MatMul", [swapped(b, own), own])]);
      return b.op("MatMul", [b.op("MatMul", [a, swapped(b, own)]), own]);
    },
    spread: (a) => overExamples(b, b.op("MatMul", [rows(), swapped(b, a)])),
  };
}

/** The side whose vectors are the unit vectors, position t having the t-th: G is the other side. */
export function units(b: Builder, size: number): Side {
  return {
    size,
    turned: (directions) => ({ value: directions, axes: [1] }),
    met: (a) => a,
    spread: (a) => b.transpose(overExamples(b, a), [1, 0]),
  };
}

/** A gradient held whole, [B, ...shape]. */
export function wholeSides(b: Builder, whole: () => Value, shape: readonly number[]): Sides {
  const [rows, columns] = matrixExtents(shape);
  const matrix = () => b.reshape(whole(), [b.batch, rows, columns]);
  const turned: Side["turned"] = (directions) => {
    const own = b.cast(directions, whole().type);
    if (columns > 1) return { value: b.op("MatMul", [b.transpose(own, [1, 0]), matrix()]), axes: [1] };
    return { value: b.op("MatMul", [b.reshape(whole(), [b.batch, rows]), own]), axes: [1] };
  };
  return { left: vectors(b, rows, matrix, turned), right: units(b, columns), scale: 1, held: true, positions: columns };
}

/** The side of a table: position t has the unit vector of its index [B (or 1), T]. */
export function indexed(b: Builder, size: number, indices: () => Value, given: () => Value): Side {
  const entries = () => notNegative(b, indices(), size);
  return {
    size,
    turned: (directions) => {
      const places = notNegative(b, given(), size);
      return { value: b.op("Gather", [directions, places], { axis: 0 }), axes: [places.shape.length] };
    },
    met: (a) => {
      const own = entries();
      const [batch = 1, positions = 1] = own.shape;
      const same = b.op("Equal", [b.reshape(own, [batch, positions, 1]), b.reshape(own, [batch, 1, positions])]);
      return b.op("MatMul", [a, b.cast(same, a.type)]);
    },
    spread: (a) => {
      const own = entries();
      const [, k = 1] = a.shape;
      const all = own.shape[0] === b.batch ? a : b.sum(a, [0], true);
      const rows = b.reshape(swapped(b, all), [flat(own.shape), k]);
      const places = b.cast(b.reshape(own, [flat(own.shape), 1]), ELEMENT.int64);
      return b.op("ScatterND", [b.filled(0, [size, k], rows), places, rows], { reduction: "add" });
    },
  };
}

const flat = (shape: readonly Dim[]): Dim => productOf(shape);

const notNegative = (b: Builder, indices: Value, size: number): Value =>
  b.where(b.op("Less", [indices, b.scalar(0, indices)]), b.shifted(indices, size), indices);
