/** Tables: the gradient of row v is the sum of the cotangents of the positions whose index is v. */
import type { Builder } from "../onnx/builder.ts";
import { productOf } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { examplesFirst, rowsFirst } from "./axes.ts";
import { COST, chunks, overPositions, rowSide } from "./outer.ts";
import { estimate, factorsOf, numberOf, type PerExample } from "./per-example.ts";
import { indexed, matrixExtents, type Sides } from "./sides.ts";

/**
 * Of a table of which `indices` chose slices along `axis`: `rows` brings the cotangent to [other axes of the table, B,
 * ...positions]; an entry sums those of its row where the index is its own.
 */
export function lookup(
  b: Builder,
  shape: number[],
  axis: number,
  d: Value,
  indices: Value,
  rowAxes: readonly number[],
): PerExample {
  const after = numberOf(shape.slice(axis + 1));
  const count = shape[axis] ?? 1;
  const rowOf = (at: number) => Math.floor(at / (after * count)) * after + (at % after);
  const indexOf = (at: number) => Math.floor(at / after) % count;
  const positions = estimate(d.shape.filter((_, a) => a !== d.batch?.axis && !rowAxes.includes(a)));
  return {
    shape,
    at: (kept) => {
      const rows = rowsFirst(b, d, rowAxes);
      const places = rows.shape.slice(2);
      const given = indices.batch ? rowsFirst(b, indices, []) : b.reshape(indices, [1, 1, ...places]);
      const index = b.where(b.op("Less", [given, b.scalar(0, given)]), b.shifted(given, count), given);
      const parts = chunks(kept, positions).map((run) => {
        const picked = b.gather(rows, run.map(rowOf));
        const wanted = b.constant(index.type, [run.length, 1, ...places.map(() => 1)], run.map(indexOf));
        return overPositions(b, b.where(b.op("Equal", [index, wanted]), picked, b.scalar(0, picked)));
      });
      return b.concat(parts, 0);
    },
    whole: () => {
      throw new Error(
        `a table of shape [${shape}]: expected it to be looked up as it is, got it changed in between; leave it out`,
      );
    },
    sides: sidesOf(b, shape, axis, d, indices, rowAxes),
    plan: (kept) => ({ kind: "lookup", cost: 2 * COST.row * kept.length * positions, others: [] }),
    factors: [
      {
        // x is one where the index is the row's: its squares add up to how often the row is looked up.
        sums: () => {
          const rows = factorsOf(
            b,
            () => rowsFirst(b, d, rowAxes),
            () => rowsFirst(b, d, rowAxes),
            (at) => [at, 0],
            [1, 1],
            null,
          ).sums();
          const flat = b.reshape(indices, [productOf(indices.shape)]);
          const positive = b.cast(
            b.where(b.op("Less", [flat, b.scalar(0, flat)]), b.shifted(flat, count), flat),
            ELEMENT.int64,
          );
          const ones = b.filled(1, positive.shape, b.constant(ELEMENT.float32, [], [0]));
          const zeros = b.filled(0, [count], ones);
          return { ...rows, x: b.op("ScatterElements", [zeros, positive, ones], { axis: 0, reduction: "add" }) };
        },
        rows: (at) => [indexOf(at), rowOf(at)],
        sizes: [count, numberOf(shape) / count],
        entries: {
          blocks: 1,
          each: 1,
          at: (index, row) => (Math.floor(row / after) * count + index) * after + (row % after),
        },
      },
    ],
  };
}

/** As a matrix, if the table's rows are its first axis and its columns the last axis of what was read. */
function sidesOf(
  b: Builder,
  shape: readonly number[],
  axis: number,
  d: Value,
  indices: Value,
  rowAxes: readonly number[],
): Sides[] | null {
  const [height, width] = matrixExtents(shape);
  const straight = rowAxes.length === 1 && rowAxes[0] === d.shape.length - 1 && d.shape.at(-1) === width;
  if (axis !== 0 || shape[0] !== height || !straight) return null;
  const flat = () => {
    const rows = examplesFirst(b, indices, []);
    return b.reshape(rows, [rows.shape[0] ?? 1, rows.shape[2] ?? 1]);
  };
  return [
    {
      left: indexed(b, height, flat, () => indices),
      right: rowSide(b, d, [...rowAxes], true),
      scale: 1,
      held: false,
      positions: estimate(d.shape.filter((_, a) => a !== d.batch?.axis && !rowAxes.includes(a))),
    },
  ];
}

/** A table read by indices that do not depend on the examples, from the gradient of what was read. */
export function lookupOfWhole(
  b: Builder,
  shape: number[],
  axis: number,
  inner: PerExample,
  indices: Value,
): PerExample {
  const d = inner.whole();
  const span = indices.shape.length;
  const rowAxes = d.shape.flatMap((_, a) => (a > 0 && (a - 1 < axis || a - 1 >= axis + span) ? [a] : []));
  return lookup(b, shape, axis, d, indices, rowAxes);
}
