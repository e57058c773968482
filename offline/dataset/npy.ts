/** NumPy's .npy, read in place: only its header is parsed, because readers that exist take the whole file into memory. */
import { type ElementType, type NumberColumn, openFile, rawColumn, readExactly } from "./column.ts";

const TYPES: Record<string, ElementType> = {
  "|b1": "bool",
  "|u1": "uint8",
  "|i1": "int8",
  "<u2": "uint16",
  "<i2": "int16",
  "<u4": "uint32",
  "<i4": "int32",
  "<f2": "float16",
  "<f4": "float32",
  "<f8": "float64",
  "<i8": "int64",
  "<u8": "uint64",
};

/** Format: NEP 1. `array` is the name to show, for an array that came out of an .npz. */
export function openNpy(path: string, array?: string): NumberColumn {
  const { descriptor, size } = openFile(path);
  const head = Buffer.from(readExactly(path, descriptor, 0, Math.min(size, 12)));
  if (head.toString("latin1", 0, 6) !== "\u0093NUMPY")
    throw new Error(`${path}: expected a NumPy .npy file, got other bytes`);
  const wide = (head[6] ?? 1) >= 2;
  const start = wide ? 12 + head.readUInt32LE(8) : 10 + head.readUInt16LE(8);
  const header = Buffer.from(readExactly(path, descriptor, wide ? 12 : 10, start - (wide ? 12 : 10))).toString(
    "latin1",
  );
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1] ?? "";
  const type = TYPES[descr];
  if (!type) {
    throw new Error(
      `${path}: expected numbers of one of the types ${Object.keys(TYPES).join(" ")}, got ${descr || header.trim()}; convert with .astype`,
    );
  }
  if (/'fortran_order':\s*True/.test(header)) {
    throw new Error(`${path}: expected row-major order, got Fortran order; save numpy.ascontiguousarray of it`);
  }
  const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? "")
    .split(",")
    .filter((part) => part.trim() !== "")
    .map(Number);
  if (shape.length === 0) throw new Error(`${path}: expected an array with an axis of examples, got a scalar`);
  return rawColumn({ path, descriptor, start, type, shape, size, ...(array === undefined ? {} : { array }) });
}
