/** Labels: one integer an example, with those that were changed on purpose. */
import { readFileSync } from "node:fs";
import * as z from "zod";
import { rowRanges } from "./column.ts";

const flippedSchema = z.object({
  flipped: z.array(z.object({ index: z.int().nonnegative(), was: z.int(), label: z.int() })),
});

/** [n], four bytes a row: batches ask for labels in any order. */
export type Labels = Int32Array;

/** The labels of the first n rows; `read` gives those of some. Throws an Error that names the example of one that is no integer. */
export async function readLabels(
  name: string,
  n: number,
  read: (rows: readonly number[]) => Promise<ArrayLike<number | bigint>>,
): Promise<Labels> {
  const labels = new Int32Array(n);
  for (const rows of rowRanges(n)) {
    const values = await read(rows);
    for (const [at, row] of rows.entries()) {
      labels[row] = Number(values[at]);
      if (labels[row] !== Number(values[at]))
        throw new Error(`${name}: example ${row}: expected an integer label, got ${values[at]}`);
    }
  }
  return labels;
}

/** Changes labels in place as the file says. Returns what the changed rows' labels were. */
export function flipLabels(labels: Labels, path: string): Map<number, number> {
  const before = new Map<number, number>();
  for (const change of flippedSchema.parse(JSON.parse(readFileSync(path, "utf8"))).flipped) {
    if (change.index >= labels.length) continue;
    if (labels[change.index] !== change.was) {
      throw new Error(
        `${path}: index ${change.index}: expected the label ${change.was}, the dataset has ${labels[change.index]}`,
      );
    }
    labels[change.index] = change.label;
    before.set(change.index, change.was);
  }
  return before;
}
