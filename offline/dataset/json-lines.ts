/** JSON Lines, one object a line; where each line starts is noted once, the lines are read when asked for. */
import { createReadStream } from "node:fs";
import * as z from "zod";
import { openFile, readExactly, type Value, type ValueColumn } from "./column.ts";

const value: z.ZodType<Value> = z.lazy(() => z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(value)]));

/** Byte offsets of the lines that are not empty, and the end: [n + 1]. */
async function lineStarts(path: string): Promise<{ starts: Float64Array; n: number }> {
  let starts = new Float64Array(1024);
  let n = 0;
  let position = 0;
  let lineStart = 0;
  let blank = true;
  const note = (start: number) => {
    if (n + 1 >= starts.length) {
      const longer = new Float64Array(2 * starts.length);
      longer.set(starts);
      starts = longer;
    }
    starts[n++] = start;
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    const bytes: Buffer = chunk;
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at]!;
      if (byte === 10) {
        if (!blank) note(lineStart);
        lineStart = position + at + 1;
        blank = true;
      } else if (byte > 32) blank = false;
    }
    position += bytes.length;
  }
  if (!blank) note(lineStart);
  starts[n] = position;
  return { starts, n };
}

export async function openJsonLines(path: string, column: string): Promise<ValueColumn> {
  const { descriptor } = openFile(path);
  const { starts, n } = await lineStarts(path);
  return {
    kind: "values",
    name: `${path}: ${column}`,
    n,
    read: async (rows) =>
      rows.map((row) => {
        const start = starts[row]!;
        const line = Buffer.from(readExactly(path, descriptor, start, starts[row + 1]! - start)).toString();
        let record: unknown;
        try {
          record = JSON.parse(line);
        } catch {
          throw new Error(
            `${path}: example ${row} (byte ${start}): expected a JSON object on one line, got ${line.slice(0, 60).trim()}`,
          );
        }
        const object = z.record(z.string(), z.unknown()).safeParse(record);
        const parsed = value.safeParse(object.success ? object.data[column] : undefined);
        if (!parsed.success) {
          const names = object.success ? Object.keys(object.data).join(", ") : "no object";
          throw new Error(
            `${path}: example ${row}: expected a field ${column} of text, a number or a list of numbers; it has ${names}`,
          );
        }
        return parsed.data;
      }),
  };
}
