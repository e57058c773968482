/** JSON Lines, one object a line; where each line starts is noted once, the lines are read when asked for. */
import { readSync } from "node:fs";
import * as z from "zod";
import { openFile, readInto, type Value, type ValueColumn } from "./column.ts";

const value: z.ZodType<Value> = z.lazy(() => z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(value)]));

/** Lines that are read at once; where the first of them starts is kept, an eighth of a byte for each line. */
const LINES = 64;

/** Byte offsets of every LINES-th of the lines that are not empty, and the end; and the number of those lines. */
function lineStarts(descriptor: number): { starts: number[]; n: number } {
  const starts: number[] = [];
  let n = 0;
  let position = 0;
  let lineStart = 0;
  let blank = true;
  const note = () => {
    if (n++ % LINES === 0) starts.push(lineStart);
  };
  const chunk = new Uint8Array(1 << 20);
  for (
    let read = readSync(descriptor, chunk, { position });
    read > 0;
    read = readSync(descriptor, chunk, { position })
  ) {
    for (let at = 0; at < read; at++) {
      const byte = chunk[at]!;
      if (byte === 10) {
        if (!blank) note();
        lineStart = position + at + 1;
        blank = true;
      } else if (byte > 32) blank = false;
    }
    position += read;
  }
  if (!blank) note();
  starts.push(position);
  return { starts, n };
}

const isObject = (record: unknown): record is object =>
  typeof record === "object" && record !== null && !Array.isArray(record);

const fieldOf = (record: unknown, column: string): unknown =>
  isObject(record) && Object.hasOwn(record, column) ? Reflect.get(record, column) : undefined;

/** The lines that are not empty in `bytes`, which begin at byte `from` of the file, and where each starts. */
function linesOf(bytes: Buffer, from: number): { text: string; start: number }[] {
  const lines: { text: string; start: number }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(10, at);
    const end = newline < 0 ? bytes.length : newline;
    let blank = at;
    while (blank < end && bytes[blank]! <= 32) blank++;
    if (blank < end) lines.push({ text: bytes.toString("utf8", at, end), start: from + at });
    at = end + 1;
  }
  return lines;
}

export async function openJsonLines(path: string, column: string): Promise<ValueColumn> {
  const { descriptor } = openFile(path);
  const { starts, n } = lineStarts(descriptor);
  let room = Buffer.alloc(0);
  let held: { group: number; lines: { text: string; start: number }[] } | null = null;
  const lineAt = (row: number) => {
    const group = Math.floor(row / LINES);
    if (held?.group !== group) {
      const from = starts[group]!;
      const length = starts[group + 1]! - from;
      // One buffer for all: what is let go is not given back at once.
      if (room.length < length) room = Buffer.alloc(2 * length);
      const bytes = room.subarray(0, length);
      readInto(path, descriptor, from, bytes);
      held = { group, lines: linesOf(bytes, from) };
    }
    return held.lines[row % LINES]!;
  };
  return {
    kind: "values",
    name: `${path}: ${column}`,
    n,
    read: async (rows) =>
      rows.map((row) => {
        const { text, start } = lineAt(row);
        let record: unknown;
        try {
          record = JSON.parse(text);
        } catch {
          throw new Error(
            `${path}: example ${row} (byte ${start}): expected a JSON object on one line, got ${text.slice(0, 60).trim()}`,
          );
        }
        const field = fieldOf(record, column);
        // By hand what most cells are: a schema takes twenty times as long.
        if (typeof field === "string" || typeof field === "number") return field;
        const parsed = value.safeParse(field);
        if (!parsed.success) {
          const names = isObject(record) ? Object.keys(record).join(", ") : "no object";
          throw new Error(
            `${path}: example ${row}: expected a field ${column} of text, a number or a list of numbers; it has ${names}`,
          );
        }
        return parsed.data;
      }),
  };
}
