/**
 * IDX, the format of the MNIST files: two zero bytes, a type code, the number of axes, big-endian extents, then the values.
 * Only unsigned bytes (type 0x08) occur in the wild; other types are refused by name.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

export interface IdxFile {
  path: string;
  /** Extents; the first is the number of examples. */
  shape: number[];
  /** Values per example. */
  width: number;
  /** Examples first … first + count − 1, [count, …extents] unsigned bytes, row-major. */
  read(first: number, count: number): Uint8Array;
  close(): void;
}

/** Opens an IDX file of unsigned bytes. Throws an Error that names the file for anything else, or a file cut short. */
export function openIdx(path: string): IdxFile {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    throw new Error(`no such dataset file: ${path}`);
  }
  const head = Buffer.alloc(4);
  readSync(descriptor, head, 0, 4, 0);
  const [zero0, zero1, type, axes] = head;
  if (zero0 !== 0 || zero1 !== 0 || type !== 8 || axes === undefined || axes < 1 || axes > 4) {
    throw new Error(
      `${path}: expected an IDX file of unsigned bytes (first bytes 00 00 08 and the number of axes), got ${head.toString("hex")}`,
    );
  }
  const extents = Buffer.alloc(4 * axes);
  readSync(descriptor, extents, 0, extents.length, 4);
  const shape = Array.from({ length: axes }, (_, axis) => extents.readUInt32BE(4 * axis));
  const width = shape.slice(1).reduce((product, extent) => product * extent, 1);
  const start = 4 + 4 * axes;
  const expected = start + width * (shape[0] ?? 0);
  const { size } = fstatSync(descriptor);
  if (size < expected) {
    throw new Error(
      `${path}: expected ${expected} bytes for extents [${shape.join(", ")}], got ${size}; fetch the file again`,
    );
  }
  return {
    path,
    shape,
    width,
    read: (first, count) => {
      const values = new Uint8Array(count * width);
      readSync(descriptor, values, 0, values.length, start + first * width);
      return values;
    },
    close: () => closeSync(descriptor),
  };
}
