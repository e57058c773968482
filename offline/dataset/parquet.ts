/** Parquet, as Hugging Face lays datasets out: one file or several in order; a row group at a time is held. */
import { existsSync } from "node:fs";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import * as z from "zod";
import type { Value, ValueColumn } from "./column.ts";

const value: z.ZodType<Value> = z.lazy(() =>
  z.union([z.string(), z.number(), z.bigint(), z.boolean(), z.null(), z.array(value)]),
);

/** Column `column` of the files; a nested value is not taken apart, a missing one is null. */
export async function openParquet(paths: readonly string[], column: string): Promise<ValueColumn> {
  const groups: {
    path: string;
    file: Awaited<ReturnType<typeof asyncBufferFromFile>>;
    first: number;
    start: number;
    end: number;
  }[] = [];
  let n = 0;
  for (const path of paths) {
    if (!existsSync(path)) throw new Error(`no such dataset file: ${path}`);
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file).catch((error: Error) => {
      throw new Error(`${path}: expected a Parquet file: ${error.message}`);
    });
    const names = metadata.schema.slice(1).map((element) => element.name);
    if (!names.includes(column))
      throw new Error(`${path}: expected a column named ${column}, the file has ${names.join(", ")}`);
    let start = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      groups.push({ path, file, first: n, start, end: start + rows });
      n += rows;
      start += rows;
    }
  }
  let held: { index: number; values: Value[] } | null = null;
  const load = async (index: number): Promise<Value[]> => {
    if (held?.index === index) return held.values;
    const { path, file, start, end } = groups[index]!;
    const rows = await parquetReadObjects({ file, columns: [column], rowStart: start, rowEnd: end, compressors });
    const values = rows.map((row, at) => {
      const parsed = value.safeParse(row[column] ?? null);
      if (!parsed.success)
        throw new Error(`${path}: row ${start + at}: column ${column}: expected text, a number or a list of numbers`);
      return parsed.data;
    });
    held = { index, values };
    return values;
  };
  return {
    kind: "values",
    name: `${paths.join(", ")}: ${column}`,
    n,
    read: async (rows) => {
      const result: Value[] = [];
      for (const row of rows) {
        const index = groups.findLastIndex(({ first }) => first <= row);
        result.push((await load(index))[row - groups[index]!.first] ?? null);
      }
      return result;
    },
  };
}
