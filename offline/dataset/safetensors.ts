/** .safetensors, read in place: u64 length, a JSON table of {dtype, shape, data_offsets}, then the data. */
import * as z from "zod";
import { type ElementType, type NumberColumn, openFile, rawColumn, readExactly } from "./column.ts";

const TYPES: Record<string, ElementType> = {
  BOOL: "bool",
  U8: "uint8",
  I8: "int8",
  U16: "uint16",
  I16: "int16",
  U32: "uint32",
  I32: "int32",
  F16: "float16",
  F32: "float32",
  F64: "float64",
  I64: "int64",
  U64: "uint64",
};

const entry = z.object({ dtype: z.string(), shape: z.array(z.int()), data_offsets: z.tuple([z.int(), z.int()]) });

export function openSafetensors(path: string, array: string | undefined): NumberColumn {
  const { descriptor, size } = openFile(path);
  const length = Number(Buffer.from(readExactly(path, descriptor, 0, 8)).readBigUInt64LE());
  if (length > size)
    throw new Error(`${path}: expected a safetensors file, got a header of ${length} bytes in a file of ${size}`);
  let table: Record<string, unknown>;
  try {
    table = z
      .record(z.string(), z.unknown())
      .parse(JSON.parse(Buffer.from(readExactly(path, descriptor, 8, length)).toString()));
  } catch {
    throw new Error(`${path}: expected a safetensors file, got a header that is not a JSON object`);
  }
  const names = Object.keys(table).filter((name) => name !== "__metadata__");
  const found = array === undefined ? undefined : table[array];
  if (array === undefined || found === undefined) {
    throw new Error(`${path}: expected a tensor named ${array ?? "(set `array`)"}, the file has ${names.join(", ")}`);
  }
  const { dtype, shape, data_offsets } = entry.parse(found);
  const type = TYPES[dtype];
  if (!type)
    throw new Error(
      `${path}: ${array}: expected one of the types ${Object.keys(TYPES).join(" ")}, got ${dtype}; convert it`,
    );
  if (shape.length === 0) throw new Error(`${path}: ${array}: expected an axis of examples, got a scalar`);
  return rawColumn({ path, array, descriptor, start: 8 + length + data_offsets[0], type, shape, size });
}
