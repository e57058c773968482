/** What a dataset file offers: columns that are read row by row, so that no file need fit in memory. */
import { fstatSync, openSync, readSync } from "node:fs";
import type { Metadata } from "../../src/core/manifest.ts";

export type Numbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float16Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;

/** A value of a JSON Lines or Parquet cell. */
export type Value = string | number | bigint | boolean | null | readonly Value[];

/** Numbers of the same extents in every row. */
export interface NumberColumn {
  kind: "numbers";
  /** For messages: the file, and the array in it. */
  name: string;
  n: number;
  /** Extents of one row; [] for a scalar. */
  extents: number[];
  /** The given rows, one after another; in `scratch` where that is large enough, until it is used again. */
  read(rows: readonly number[], scratch?: ArrayBuffer): Promise<Numbers>;
}

/** Values of any kind: text, numbers, lists whose lengths differ. */
export interface ValueColumn {
  kind: "values";
  name: string;
  n: number;
  read(rows: readonly number[]): Promise<Value[]>;
}

export type Column = NumberColumn | ValueColumn;

/** A value as the index shows it. */
export type Cell = Metadata["columns"][string][number];

function cellOf(value: Value): Cell {
  if (typeof value === "bigint") return Number(value);
  return typeof value === "object" && value !== null ? JSON.stringify(value) : value;
}

/** The given rows as the index shows them: of a nested value its JSON. */
export async function cellsOf(column: Column, rows: readonly number[]): Promise<Cell[]> {
  return column.kind === "values" ? (await column.read(rows)).map(cellOf) : Array.from(await column.read(rows), Number);
}

/** Rows 0 … n − 1, some at a time. */
export function* rowRanges(n: number, size = 256): Generator<number[]> {
  for (let first = 0; first < n; first += size)
    yield Array.from({ length: Math.min(size, n - first) }, (_, at) => first + at);
}

const ARRAYS = {
  bool: Uint8Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float16: Float16Array,
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const;
export type ElementType = keyof typeof ARRAYS;

/** Opens a file for reading. Throws an Error that names it when it is not there. */
export function openFile(path: string): { descriptor: number; size: number } {
  try {
    const descriptor = openSync(path, "r");
    return { descriptor, size: fstatSync(descriptor).size };
  } catch {
    throw new Error(`no such dataset file: ${path}`);
  }
}

/** Reads exactly `length` bytes. Throws an Error that names the file when it ends before. */
export function readExactly(path: string, descriptor: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  readInto(path, descriptor, position, bytes);
  return bytes;
}

/** Fills `bytes` from `position` on. Throws an Error that names the file when it ends before. */
export function readInto(path: string, descriptor: number, position: number, bytes: Uint8Array): void {
  const { length } = bytes;
  for (let done = 0; done < length; ) {
    const got = readSync(descriptor, bytes, done, Math.min(length - done, 1 << 30), position + done);
    if (got === 0)
      throw new Error(
        `${path}: expected ${position + length} bytes or more, got ${position + done}; fetch the file again`,
      );
    done += got;
  }
}

/** Where an array of numbers lies in a file. */
export interface RawArray {
  path: string;
  /** The array's name in the file, when it has one. */
  array?: string;
  descriptor: number;
  /** Byte at which its first value lies. */
  start: number;
  type: ElementType;
  /** Extents, rows first. */
  shape: number[];
  size: number;
}

/** An array stored row-major, little-endian and uncompressed, read in place. Throws an Error if the file is too short for it. */
export function rawColumn({ path, array, descriptor, start, type, shape, size }: RawArray): NumberColumn {
  const name = array === undefined ? path : `${path}: ${array}`;
  const [n = 0, ...extents] = shape;
  const Numbers = ARRAYS[type];
  const width = extents.reduce((product, extent) => product * extent, 1);
  const stride = width * Numbers.BYTES_PER_ELEMENT;
  if (start + n * stride > size) {
    throw new Error(
      `${name}: expected ${start + n * stride} bytes for extents [${shape.join(", ")}], got ${size}; fetch the file again`,
    );
  }
  return {
    kind: "numbers",
    name,
    n,
    extents,
    read: async (rows, scratch) => {
      const length = rows.length * stride;
      const bytes =
        scratch && scratch.byteLength >= length ? new Uint8Array(scratch, 0, length) : new Uint8Array(length);
      for (let first = 0; first < rows.length; ) {
        let end = first + 1;
        while (end < rows.length && rows[end] === rows[end - 1]! + 1) end++;
        readInto(path, descriptor, start + rows[first]! * stride, bytes.subarray(first * stride, end * stride));
        first = end;
      }
      return new Numbers(bytes.buffer, 0, rows.length * width);
    },
  };
}
