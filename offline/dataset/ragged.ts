/** Lists whose lengths differ, token ids above all: read or tokenized when asked for, kept until the next set of rows. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import type { ColumnFile } from "../command/config.ts";
import type { Value, ValueColumn } from "./column.ts";

export interface Ragged {
  name: string;
  n: number;
  pad: number | null;
  /** The given rows' lists. */
  read(rows: readonly number[]): Promise<number[][]>;
  /** Forgets what it keeps of rows read before. */
  forget(): void;
}

function tokenizerOf(path: string): (text: string) => number[] {
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(JSON.parse(readFileSync(path, "utf8")), {});
  } catch (error) {
    throw new Error(`${path}: expected a tokenizer.json: ${error instanceof Error ? error.message : String(error)}`);
  }
  return (text) => tokenizer.encode(text).ids;
}

/** A list of numbers, flattened. */
function numbersOf(name: string, row: number, value: Value): number[] {
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return [Number(value)];
  if (Array.isArray(value)) return value.flatMap((inner) => numbersOf(name, row, inner));
  throw new Error(
    `${name}: example ${row}: expected numbers, got ${value === null ? "nothing" : "text"}; set \`tokenizer\` to turn text into token ids`,
  );
}

export function openRagged(column: ValueColumn, entry: ColumnFile, folder: string): Ragged {
  const tokenize = entry.tokenizer === undefined ? null : tokenizerOf(resolve(folder, entry.tokenizer));
  const kept = new Map<number, number[]>();
  const listOf = (row: number, value: Value): number[] => {
    if (!tokenize) return numbersOf(column.name, row, value);
    if (typeof value !== "string")
      throw new Error(`${column.name}: example ${row}: expected text for the tokenizer, got ${JSON.stringify(value)}`);
    return tokenize(value);
  };
  return {
    name: column.name,
    n: column.n,
    pad: entry.pad ?? null,
    read: async (rows) => {
      const missing = rows.filter((row) => !kept.has(row));
      const values = await column.read(missing);
      missing.forEach((row, at) => {
        const list = listOf(row, values[at] ?? null).slice(0, entry.maxLength);
        kept.set(row, entry.divideBy === 1 ? list : list.map((number) => number / entry.divideBy));
      });
      return rows.map((row) => kept.get(row)!);
    },
    forget: () => kept.clear(),
  };
}
