/**
 * Mixing: a better balance than one factor a coordinate can give. Coordinates of one layer go together, so a query q̃ becomes
 * y = Aᵀ q̃ and a row p̃ becomes z = A⁻¹ p̃, and q̃·p̃ = y·z, where A has a block for each layer, or a part of one, and is chosen such that
 * typical queries and rows are short, and that few of the R mixed coordinates carry most of both: those come first, the head.
 * A's entries are small integers, so that the product with a query is exact; FORMAT.md says how exact z is.
 */
import { crc32 } from "./crc32.ts";
import { ALIGNMENT, align, checkHeader, encodeHeader, HEADER_BYTES } from "./header.ts";
import type { MixingShape } from "./manifest.ts";
import { interleave } from "./plane.ts";
import { CorruptIndexError } from "./source.ts";

export interface Mixing {
  /** Widths of the blocks, of consecutive coordinates; their sum is R. */
  blocks: readonly number[];
  /** [R] of each column of A the power of two that its entries are multiplied by, within ±MOST_EXPONENT. */
  exponents: Int16Array;
  /** [R] the place of each column's coordinate among the mixed ones: a permutation, the head's first. */
  places: Uint32Array;
  /** A's columns one after another, each its block's width long and padded with zeros to a multiple of 16: −127 … 127. */
  entries: Int8Array;
}

/** The widest block whose sums fit 32 bits: 127 · 2¹⁴ · 512 < 2³¹. */
export const WIDEST_BLOCK = 512;
export const MOST_EXPONENT = 300;

/** What the writer promises of every row: ‖p̃ − A z‖ ≤ LOSS · ‖p̃‖. */
export const LOSS = 2 ** -30;

/** Bytes of a column in a block of that width. */
export const columnBytes = (width: number): number => Math.ceil(width / 16) * 16;

/** Bytes that the entries take in the kernel's memory: columns in whole groups of four. */
export const groupedBytes = (blocks: readonly number[]): number =>
  blocks.reduce((sum, width) => sum + Math.ceil(width / 4) * 4 * columnBytes(width), 0);

/**
 * Lays the entries out for the kernel: of four columns at a time 16 of each in turn, so that their product with a query reads one stream
 * of memory. What is behind a block's last column is zero.
 */
export function placeEntries({ blocks, entries }: Mixing, grouped: Int8Array): void {
  let from = 0;
  let to = 0;
  for (const width of blocks) {
    const bytes = columnBytes(width);
    for (let column = 0; column < width; column++, from += bytes) {
      const group = to + 4 * bytes * (column >> 2);
      interleave(entries.subarray(from, from + bytes), column & 3, grouped.subarray(group, group + 4 * bytes));
    }
    to += Math.ceil(width / 4) * 4 * bytes;
  }
}

const entryBytes = (blocks: readonly number[]): number =>
  blocks.reduce((sum, width) => sum + width * columnBytes(width), 0);

/** Where the arrays of mixing.bin lie, and its length. */
export function mixingLayout(blocks: readonly number[]) {
  const R = blocks.reduce((sum, width) => sum + width, 0);
  const placesAt = HEADER_BYTES + align(2 * R);
  const entriesAt = placesAt + align(4 * R);
  return { exponentsAt: HEADER_BYTES, placesAt, entriesAt, bytes: entriesAt + align(entryBytes(blocks)) };
}

/** Stands in the header where others have a stride: planes of another head, or blocks in another order, may be as long as these. */
const shapeSum = ({ blocks, head }: MixingShape): number =>
  crc32(new Uint8Array(Uint32Array.of(head, ...blocks).buffer));

/** mixing.bin. */
export function encodeMixing({ blocks, exponents, places, entries }: Mixing, head: number, n: number): Uint8Array {
  const { exponentsAt, placesAt, entriesAt, bytes } = mixingLayout(blocks);
  const file = new Uint8Array(bytes);
  file.set(
    encodeHeader({ kind: "mixing", n, dimension: exponents.length, stride: shapeSum({ blocks: [...blocks], head }) }),
  );
  const view = new DataView(file.buffer);
  exponents.forEach((exponent, j) => {
    view.setInt16(exponentsAt + 2 * j, exponent, true);
  });
  places.forEach((place, j) => {
    view.setUint32(placesAt + 4 * j, place, true);
  });
  file.set(new Uint8Array(entries.buffer, entries.byteOffset, entries.length), entriesAt);
  return file;
}

/** Reads mixing.bin; views into `bytes`, which must start at a multiple of 64 in its buffer. Throws CorruptIndexError. */
export function decodeMixing(file: string, bytes: Uint8Array, n: number, shape: MixingShape): Mixing {
  const { blocks } = shape;
  const R = blocks.reduce((sum, width) => sum + width, 0);
  checkHeader(file, bytes, { kind: "mixing", n, dimension: R, stride: shapeSum(shape) });
  const layout = mixingLayout(blocks);
  if (bytes.length !== layout.bytes) throw new CorruptIndexError(file, `${layout.bytes} bytes`, `${bytes.length}`);
  if (bytes.byteOffset % ALIGNMENT !== 0) throw new RangeError(`${file}: expected bytes aligned to ${ALIGNMENT}`);
  const exponents = new Int16Array(bytes.buffer, bytes.byteOffset + layout.exponentsAt, R);
  const places = new Uint32Array(bytes.buffer, bytes.byteOffset + layout.placesAt, R);
  const entries = new Int8Array(bytes.buffer, bytes.byteOffset + layout.entriesAt, entryBytes(blocks));
  const steep = exponents.find((exponent) => Math.abs(exponent) > MOST_EXPONENT);
  if (steep !== undefined) throw new CorruptIndexError(file, `exponents within ±${MOST_EXPONENT}`, `${steep}`);
  const taken = new Uint8Array(R);
  for (const place of places) {
    if (place >= R || taken[place] === 1) throw new CorruptIndexError(file, "a permutation of places", `${place}`);
    taken[place] = 1;
  }
  let at = 0;
  for (const width of blocks) {
    for (let column = 0; column < width; column++, at += columnBytes(width)) {
      for (let i = 0; i < columnBytes(width); i++) {
        const entry = entries[at + i];
        if (entry === -128 || (i >= width && entry !== 0)) {
          throw new CorruptIndexError(file, "entries of −127 … 127 and zeros behind them", `${entry}`);
        }
      }
    }
  }
  return { blocks, exponents, places, entries };
}

/** At least ‖A‖₂, by which a vector grows at most: the greatest of the blocks' Frobenius norms. */
export function spreadOf({ blocks, exponents, entries }: Mixing): number {
  let greatest = 0;
  let column = 0;
  let at = 0;
  for (const width of blocks) {
    let square = 0;
    for (let j = 0; j < width; j++, column++, at += columnBytes(width)) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += entries[at + i] ** 2;
      square += sum * 4 ** exponents[column];
    }
    greatest = Math.max(greatest, square);
  }
  return Math.sqrt(greatest) * (1 + 2 ** -40);
}
