/** A layer's gradient seen as one matrix: a weight [outputs, inputs…], its bias as one more column (or row). */
import { type Layer, sizeOf } from "../../../src/core/mask.ts";

export interface MatrixView {
  rows: number;
  columns: number;
  /** [d]: row · columns + column of each position. Cells that no position has are 0. */
  cell: Uint32Array;
}

/**
 * The first parameter of two axes or more is the matrix, its trailing axes flattened. Vectors beside it as long as its rows are
 * columns, as its columns rows. A layer without a matrix is its parameters as rows (a norm's scale and shift), when they
 * are equally long, or one row.
 */
export function matrixView({ parameters, d }: Layer): MatrixView {
  const sizes = parameters.map(sizeOf);
  const starts = sizes.map((_, index) => sizes.slice(0, index).reduce((a, b) => a + b, 0));
  const main = parameters.findIndex(({ shape }) => shape.length > 1);
  const height = parameters[main]?.shape[0] ?? 0;
  const width = (sizes[main] ?? 0) / (height || 1);
  const others = parameters.map((_, index) => index).filter((index) => index !== main);
  const cell = new Uint32Array(d);
  if (main < 0 || others.some((index) => sizes[index] !== height && sizes[index] !== width)) {
    const [length = d] = sizes;
    const columns = sizes.every((size) => size === length) ? length : d;
    for (let position = 0; position < d; position++) cell[position] = position;
    return { rows: d / columns, columns, cell };
  }
  const asColumns = others.filter((index) => sizes[index] === height);
  const asRows = others.filter((index) => sizes[index] !== height);
  const columns = width + asColumns.length;
  for (let k = 0; k < height * width; k++) {
    cell[(starts[main] ?? 0) + k] = Math.floor(k / width) * columns + (k % width);
  }
  asColumns.forEach((index, extra) => {
    for (let k = 0; k < height; k++) cell[(starts[index] ?? 0) + k] = k * columns + width + extra;
  });
  asRows.forEach((index, extra) => {
    for (let k = 0; k < width; k++) cell[(starts[index] ?? 0) + k] = (height + extra) * columns + k;
  });
  return { rows: height + asRows.length, columns, cell };
}

/** k ≤ rows and l ≤ columns with k·l ≤ r, as square as the matrix allows and k·l as near to r as that leaves. */
export function gridExtents(view: MatrixView, r: number): [number, number] {
  const side = Math.max(1, Math.floor(Math.sqrt(r)));
  if (view.rows < side) return [view.rows, Math.min(view.columns, Math.floor(r / view.rows))];
  const columns = Math.min(view.columns, side);
  return [Math.min(view.rows, Math.floor(r / columns)), columns];
}
