/**
 * The gradient of a parameter, one for each example, before it is computed: what is asked of it is its entries at kept positions.
 * It comes in three forms: small enough to hold whole; an outer product of rows summed over positions (dense layers,
 * convolutions), of which only the kept entries are ever computed; and sums of those seen through moved or scaled entries.
 */
import type { Builder } from "../onnx/builder.ts";
import { type Dim, productOf } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { type Sides, wholeSides } from "./sides.ts";

export interface PerExample {
  /** The parameter's shape, or of what is made of parameters; only the latter may have open extents. */
  shape: Dim[];
  /** [positions, B]: entries at flat row-major positions. */
  at(positions: readonly number[]): Value;
  /** [B, ...shape]: the whole of it; only for what is small. */
  whole(): Value;
  /** How `at` computes those entries, and the estimated cost in multiply-adds per example. */
  plan(positions: readonly number[]): Plan;
  /** What the mean square of each entry is estimated from, a pair of factors for each use. */
  factors: Factors[];
  /** What it is in other directions, for each use; null where it is not known as a matrix (`matrixExtents` of its shape). */
  sides: Sides[] | null;
}

export interface Plan {
  /** From the whole; gathered rows of a product; blocks of a product; kernel offsets; a table's rows; several uses; in other directions. */
  kind: "whole" | "rows" | "blocks" | "taps" | "lookup" | "sum" | "turned";
  cost: number;
  /** The plans that would cost more, cheapest first. */
  others: { kind: Plan["kind"]; cost: number }[];
}

/** The first of those that cost least. */
export function cheapest(plans: readonly Omit<Plan, "others">[]): Plan {
  const [best, ...others] = [...plans].sort((a, b) => a.cost - b.cost);
  if (!best) throw new Error("a plan: expected at least one, got none");
  return { ...best, others };
}

/**
 * An entry at (p, q) is a sum over positions of x[p]·δ[q]; if those are independent, its mean square over n examples with N
 * positions in all is Σx[p]²·Σδ[q]²/(n·N). What has no factors has one column: x holds its squares, δ and N are 1.
 */
export interface Factors {
  /** Σx² [rows of x] and Σδ² [rows of δ] over examples and positions, and N [1]; all float32. */
  sums(): { x: Value; d: Value; count: Value };
  /** The rows of x and δ whose product gives the entry at a position. */
  rows(position: number): [number, number];
  /** How many rows each has. */
  sizes: [number, number];
  /** The way back from rows to entries; null where it is not known, and entries can only be gone through one by one. */
  entries: Entries | null;
}

/** The entries of each pair of rows (p, q): the inverse of `Factors.rows`. */
export interface Entries {
  /** Both sides' rows fall into this many equal runs; only pairs of runs of the same number have entries. */
  blocks: number;
  /** How many entries each such pair has. */
  each: number;
  /** The position of one of them, `which` in 0 … each−1. */
  at(p: number, q: number, which: number): number;
}

/** Σ of squares over all axes but the first. */
const sumOfSquares = (b: Builder, rows: Value): Value =>
  b.cast(
    b.sum(
      b.mul(rows, rows),
      rows.shape.flatMap((_, axis) => (axis === 0 ? [] : [axis])),
    ),
    ELEMENT.float32,
  );

/** The factors of rows [p, B, ...positions] and [q, B, ...positions]. */
export function factorsOf(
  b: Builder,
  x: () => Value,
  d: () => Value,
  rows: Factors["rows"],
  sizes: [number, number],
  entries: Entries | null,
): Factors {
  return {
    sums: () => {
      const count = b.extent(productOf(d().shape.slice(1)));
      return { x: sumOfSquares(b, x()), d: sumOfSquares(b, d()), count: b.cast(count, ELEMENT.float32) };
    },
    rows,
    sizes,
    entries,
  };
}

export const numberOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The extents of a shape that has to be fixed. */
export function fixed(shape: readonly Dim[]): number[] {
  return shape.map((dim) => {
    if (typeof dim === "number") return dim;
    throw new Error(`a weight: expected a fixed shape, got [${shape}]; export with a fixed size`);
  });
}

/** An extent as a number for estimates; an open one counts as 128. */
export const estimate = (dims: readonly Dim[]): number =>
  dims.reduce<number>((product, dim) => product * (typeof dim === "number" ? dim : 128), 1);

/**
 * From the whole, [B, ...shape]. It is made when it is first asked for: its nodes then stand with its parameter's other nodes and
 * run with them, so that its cotangent is freed before the next layer's is made.
 */
export function held(b: Builder, whole: () => Value, shape: Dim[]): PerExample {
  return {
    shape,
    whole,
    at: (positions) => {
      const d = numberOf(fixed(shape));
      const flat = b.reshape(whole(), [b.batch, d]);
      return b.transpose(positions.length === d ? flat : b.gather(flat, positions, 1), [1, 0]);
    },
    plan: () => ({ kind: "whole", cost: estimate(shape), others: [] }),
    factors: shape.every((dim) => typeof dim === "number") ? [wholeFactors(b, whole, fixed(shape))] : [],
    sides: shape.every((dim) => typeof dim === "number") ? [wholeSides(b, whole, fixed(shape))] : null,
  };
}

function wholeFactors(b: Builder, whole: () => Value, shape: number[]): Factors {
  const d = numberOf(shape);
  const one = () => b.constant(ELEMENT.float32, [1], [1]);
  return {
    sums: () => ({ x: sumOfSquares(b, b.transpose(b.reshape(whole(), [b.batch, d]), [1, 0])), d: one(), count: one() }),
    rows: (position) => [position, 0],
    sizes: [d, 1],
    entries: { blocks: 1, each: 1, at: (position) => position },
  };
}

/** Several uses of one parameter: their sum. */
export function summed(b: Builder, parts: readonly PerExample[]): PerExample {
  const [first, ...rest] = parts;
  if (!first) throw new Error("a sum of gradients: expected at least one use of the parameter, got none");
  if (rest.length === 0) return first;
  return {
    shape: first.shape,
    at: (positions) => parts.map((part) => part.at(positions)).reduce(b.add),
    whole: () => parts.map((part) => part.whole()).reduce(b.add),
    plan: (positions) => ({
      kind: "sum",
      cost: parts.reduce((cost, part) => cost + part.plan(positions).cost, 0),
      others: [],
    }),
    factors: parts.flatMap((part) => part.factors),
    sides: parts.every((part) => part.sides) ? parts.flatMap((part) => part.sides ?? []) : null,
  };
}

/**
 * Entries seen elsewhere: entry p of the parameter is the sum of the entries `targets(p)` of what it became, times the entry of
 * `scale` (if any, of the shape of what it became). `source` is the way back, if every entry of what it became has one.
 */
export function moved(
  b: Builder,
  inner: PerExample,
  shape: Dim[],
  targets: (position: number) => number[],
  source: ((position: number) => number) | null,
  whole: () => Value,
  scale: Value | null = null,
): PerExample {
  const scaledRows = (positions: number[]) => {
    const rows = inner.at(positions);
    if (!scale) return rows;
    const flat = b.reshape(scale, [numberOf(fixed(inner.shape))]);
    return b.mul(rows, b.reshape(b.gather(flat, positions), [positions.length, 1]));
  };
  const open = !inner.shape.every((dim) => typeof dim === "number");
  return {
    shape,
    at: (positions) => {
      if (open) return held(b, whole, shape).at(positions);
      const lists = positions.map(targets);
      const depth = Math.max(...lists.map((list) => list.length), 1);
      const layers = Array.from({ length: depth }, (_, layer) => {
        const found = lists.flatMap((list) => (list[layer] === undefined ? [] : [list[layer]]));
        if (found.length === positions.length) return scaledRows(found);
        const zeros = b.filled(0, [1, b.batch], inner.at([0]));
        const rows = found.length === 0 ? zeros : b.concat([scaledRows(found), zeros], 0);
        let next = 0;
        return b.gather(
          rows,
          lists.map((list) => (list[layer] === undefined ? found.length : next++)),
        );
      });
      return layers.reduce(b.add);
    },
    whole,
    sides: !open && inner.sides?.every((use) => use.held) ? [wholeSides(b, whole, fixed(shape))] : null,
    plan: (positions) => inner.plan(positions.flatMap(targets)),
    factors: open
      ? held(b, whole, shape).factors
      : inner.factors.map((f) => ({
          ...f,
          rows: (position) => rowsAt(f, targets(position)[0]),
          entries: source && f.entries && entriesBehind(f.entries, source),
        })),
  };
}

const entriesBehind = ({ blocks, each, at }: Entries, source: (position: number) => number): Entries => ({
  blocks,
  each,
  at: (p, q, which) => source(at(p, q, which)),
});

/** The rows of an entry; rows that do not exist for one that went nowhere. */
const rowsAt = (factors: Factors, position: number | undefined): [number, number] =>
  position === undefined ? factors.sizes : factors.rows(position);
