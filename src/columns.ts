/** Columns of the training examples, as filters and as groups of rows. */
import { rowBitmap } from "./core/search.ts";
import type { OpenIndex } from "./open-index.ts";
import { Problem, show } from "./problem.ts";
import { type Cell, type Filter, MAX_GROUPS } from "./schema.ts";

/** What is needed of an index to know its columns. */
type Described = Pick<OpenIndex, "examples" | "manifest">;

/** The values of a column, [n]. Throws 404. */
function columnOf({ examples, manifest }: Described, name: string): readonly Cell[] {
  if (Object.hasOwn(examples.columns, name)) return examples.columns[name];
  const known = Object.keys(examples.columns).join(", ");
  throw new Problem(
    "unknown-column",
    `column: expected a column of index ${manifest.name} (${known || "it has none"}), got ${show(name)}; name one of them.`,
  );
}

/** The rows that a filter lets through, as a bitmap. Throws 404 for a column, a value or an id that the index does not have. */
export function bitmapOf(index: Described, { column, values, ids }: Filter): Uint8Array {
  if (column === undefined) return rowsAmong(index, "filter.ids", "unknown-example", index.examples.ids, ids ?? []);
  return rowsAmong(index, "filter.values", "unknown-value", columnOf(index, column), values ?? []);
}

/** The rows whose cell is among those wanted, each of which must be there: a misspelt one would silently find nothing. */
function rowsAmong(
  index: Described,
  where: string,
  unknown: "unknown-example" | "unknown-value",
  cells: readonly Cell[],
  wanted: readonly Cell[],
): Uint8Array {
  const set = new Set(wanted);
  const found = new Set<Cell>();
  const rows: number[] = [];
  cells.forEach((cell, row) => {
    if (!set.has(cell)) return;
    found.add(cell);
    rows.push(row);
  });
  const missing = wanted.findIndex((cell) => !found.has(cell));
  if (missing >= 0) {
    throw new Problem(
      unknown,
      `${where}[${missing}]: expected what a training example of index ${index.manifest.name} has, got ${show(wanted[missing])}; leave it out.`,
    );
  }
  return rowBitmap(cells.length, rows);
}

/** The values of a column in the order of their first rows, and of each row [n] the place of its value among them. */
export function groupsOf(index: Described, column: string): { values: Cell[]; groups: Uint32Array } {
  const cells = columnOf(index, column);
  const places = new Map<Cell, number>();
  const groups = Uint32Array.from(cells, (cell) => {
    const place = places.get(cell) ?? places.size;
    places.set(cell, place);
    return place;
  });
  if (places.size > MAX_GROUPS) {
    throw new Problem(
      "invalid-body",
      `column: expected one of at most ${MAX_GROUPS} different values, got ${places.size} in ${show(column)}; choose a coarser one.`,
    );
  }
  return { values: [...places.keys()], groups };
}
