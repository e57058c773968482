/** Reading the fixtures that PyTorch wrote: a length, a JSON header, then arrays. */
import { readFileSync } from "node:fs";
import * as z from "zod";

const entry = z.object({
  dtype: z.enum(["F64", "F32", "I64", "I32", "BOOL"]),
  shape: z.array(z.number()),
  data_offsets: z.tuple([z.number(), z.number()]),
});
const header = z.object({ __metadata__: z.record(z.string(), z.string()).optional() }).catchall(entry);

export interface Array64 {
  dtype: "F64" | "F32" | "I64" | "I32" | "BOOL";
  shape: number[];
  data: Float64Array;
}

/** The arrays by name, as float64, and the metadata. */
export function readSafetensors(path: string): { arrays: Map<string, Array64>; metadata: Record<string, string> } {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...entries } = header.parse(JSON.parse(bytes.toString("utf8", 8, 8 + length)));
  const arrays = new Map<string, Array64>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(entries)) {
    const [start, end] = data_offsets;
    const raw = Uint8Array.from(bytes.subarray(8 + length + start, 8 + length + end)).buffer;
    const data =
      dtype === "F64"
        ? new Float64Array(raw)
        : dtype === "F32"
          ? Float64Array.from(new Float32Array(raw))
          : dtype === "I64"
            ? Float64Array.from(new BigInt64Array(raw), Number)
            : dtype === "I32"
              ? Float64Array.from(new Int32Array(raw))
              : Float64Array.from(new Uint8Array(raw));
    arrays.set(name, { dtype, shape, data });
  }
  return { arrays, metadata: __metadata__ ?? {} };
}
