/** The 64 bytes that open every .bin and .images file: what it is and its shape. FORMAT.md draws them. */
import { CorruptIndexError } from "./source.ts";

export const HEADER_BYTES = 64;
/** Arrays inside a file start at multiples of this, so that a file can be used where it lies in memory. */
export const ALIGNMENT = 64;

const MAGIC = "inflEdge";
const VERSION = 1;

export type FileKind = "basis" | "mixing" | "coarse" | "fine" | "mask" | "images";

export interface FileHeader {
  kind: FileKind;
  /** Rows: training examples, images, or layers, by kind. */
  n: number;
  /** R, the length of a compressed gradient; 0 where it has no meaning. */
  dimension: number;
  /** Bytes from one row's codes to the next; 0 where the file has none. */
  stride: number;
}

/** `offset` rounded up to the alignment of arrays. */
export const align = (offset: number): number => Math.ceil(offset / ALIGNMENT) * ALIGNMENT;

/** The bytes of a header; all integers little-endian. */
export function encodeHeader(header: FileHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  writeAscii(bytes, 0, MAGIC);
  writeAscii(bytes, 8, header.kind);
  const view = new DataView(bytes.buffer);
  view.setUint32(16, VERSION, true);
  view.setUint32(20, header.n, true);
  view.setUint32(24, header.dimension, true);
  view.setUint32(28, header.stride, true);
  return bytes;
}

/** Throws CorruptIndexError, naming `file`, unless `bytes` open with exactly the header that is expected. */
export function checkHeader(file: string, bytes: Uint8Array, expected: FileHeader): void {
  const wanted = encodeHeader(expected);
  const same = bytes.length >= HEADER_BYTES && wanted.every((byte, index) => bytes[index] === byte);
  if (same) return;
  throw new CorruptIndexError(file, describe(wanted), bytes.length < HEADER_BYTES ? "a shorter file" : describe(bytes));
}

function describe(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const ascii = (from: number) =>
    JSON.stringify(String.fromCharCode(...bytes.subarray(from, from + 8)).replace(/\0+$/, ""));
  const [version, n, dimension, stride] = [16, 20, 24, 28].map((offset) => view.getUint32(offset, true));
  return `a header ${ascii(0)} ${ascii(8)} version ${version}, n = ${n}, R = ${dimension}, stride ${stride}`;
}

function writeAscii(bytes: Uint8Array, offset: number, text: string): void {
  for (let index = 0; index < text.length; index++) bytes[offset + index] = text.charCodeAt(index);
}
