/** From preconditioned rows to a searchable index: basis.bin, coarse.bin, fine.bin, long.f32 and rows.crc32 beside rows.f32. */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { type Basis, balance, DROPPED, drawBasis, encodeBasis, rotate } from "../../src/core/basis.ts";
import { encodeHeader, HEADER_BYTES } from "../../src/core/header.ts";
import { FILES } from "../../src/core/manifest.ts";
import {
  COARSE_TERMS,
  coarseLayout,
  FINE_TERMS,
  fineLayout,
  interleave,
  longRows,
  type PlaneLayout,
  quantiseRow,
  strideOf,
} from "../../src/core/plane.ts";
import { bytesOf, openWriter } from "./index-files.ts";

/** Bytes of rows.f32 that are read at once. */
const CHUNK_BYTES = 8 * 1024 * 1024;

export interface IndexRowsSettings {
  /** Rows and coordinates of rows.f32, float32 [n, R]. */
  n: number;
  R: number;
  /** [R] E g̃_j² over the training gradients: what queries look like. */
  queryMeanSquare: Float64Array;
  seed: number | string;
  /** Called with rows done of `total`, over all passes. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Reads rows.f32 of `folder` three times, in parts, and writes basis.bin, coarse.bin, fine.bin, long.f32 and rows.crc32 beside it: the same
 * bytes for the same rows and settings on every platform. Holds some 16 MB, and eight bytes a row to order them.
 * Throws RangeError for shapes that disagree or a value that is not finite, naming the row.
 */
export async function indexRows(folder: string, settings: IndexRowsSettings): Promise<void> {
  const { n, R, queryMeanSquare, seed, onProgress } = settings;
  if (queryMeanSquare.length !== R) {
    throw new RangeError(`queryMeanSquare: expected ${R} values, got ${queryMeanSquare.length}`);
  }
  const rows = openSync(rowsName(folder), "r");
  try {
    const { size } = fstatSync(rows);
    if (size !== 4 * n * R) {
      throw new RangeError(`${rowsName(folder)}: expected ${4 * n * R} bytes for ${n} × ${R} float32, got ${size}`);
    }
    const squares = new Float64Array(R);
    const checksums = openWriter(path.join(folder, FILES.rowChecksums));
    try {
      for (const part of rowParts(rows, n, R)) {
        const { first, count, bytes } = part;
        addSquares(rowsName(folder), part, squares);
        const crc = (_: unknown, index: number) => crc32(bytes.subarray(4 * R * index, 4 * R * (index + 1)));
        checksums.write(bytesOf(Uint32Array.from({ length: count }, crc)));
        onProgress?.(first + count, 3 * n);
      }
    } finally {
      checksums.close();
    }

    const basis = drawBasis(balance(squares, queryMeanSquare, n), seed);
    writeFileSync(path.join(folder, FILES.basis), encodeBasis(basis, n));
    const scales = Float64Array.from(basis.exponents, (exponent) => (exponent === DROPPED ? 0 : 2 ** -exponent));
    const keys = openOrder(n);
    for (const { first, count, values } of rowParts(rows, n, R)) {
      for (let index = 0; index < count; index++) keys.set(first + index, lengthOf(values, R * index, scales));
      onProgress?.(n + first + count, 3 * n);
    }
    await writePlanes(folder, keys.order(), basis, scales, (done) => onProgress?.(2 * n + done, 3 * n));
  } finally {
    closeSync(rows);
  }
}

/**
 * Rows by falling length, ties by row, in eight bytes a row: of each its length as float32, whose bits order as it does, and
 * its number, sorted as one 64-bit integer where it lies.
 */
function openOrder(n: number): { set(row: number, length: number): void; order(): Uint32Array } {
  const keys = new BigUint64Array(n);
  const words = new Uint32Array(keys.buffer);
  const [high, low] = LITTLE_ENDIAN ? [1, 0] : [0, 1];
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  return {
    set: (row, length) => {
      float[0] = length;
      words[2 * row + high] = ~bits[0];
      words[2 * row + low] = row;
    },
    order: () => {
      keys.sort();
      for (let place = 0; place < n; place++) words[place] = words[2 * place + low];
      return words.subarray(0, n);
    },
  };
}

const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** ‖p̃‖ of the row that starts at `from`. */
function lengthOf(values: Float32Array, from: number, scales: Float64Array): number {
  let sum = 0;
  for (let j = 0; j < scales.length; j++) sum += (values[from + j] * scales[j]) ** 2;
  return Math.sqrt(sum);
}

const rowsName = (folder: string): string => path.join(folder, FILES.rows);

function addSquares(file: string, { first, count, values }: RowPart, squares: Float64Array): void {
  const R = squares.length;
  for (let index = 0; index < count; index++) {
    for (let j = 0; j < R; j++) {
      const value = values[index * R + j];
      if (!Number.isFinite(value)) {
        throw new RangeError(
          `${file}, row ${first + index}, coordinate ${j}: expected a finite value, got ${value}; check the fit`,
        );
      }
      squares[j] += value * value;
    }
  }
}

/** The planes, rows in the order given. */
async function writePlanes(
  folder: string,
  order: Uint32Array,
  basis: Basis,
  scales: Float64Array,
  onRow: (done: number) => void,
): Promise<void> {
  const R = basis.dimension;
  const n = order.length;
  const stride = strideOf(R);
  const coarse = planeWriter(path.join(folder, FILES.coarse), "coarse", n, R, coarseLayout(n, R), COARSE_TERMS);
  const fine = planeWriter(path.join(folder, FILES.fine), "fine", n, R, fineLayout(n, R), FINE_TERMS);
  // Rows come from all over the file, one at a time: synchronous reads take a fifth of the time of asynchronous ones.
  const rows = openSync(rowsName(folder), "r");
  const long = openWriter(path.join(folder, FILES.long));
  try {
    const values = new Float32Array(R);
    const valueBytes = bytesOf(values);
    const x = new Float64Array(R);
    const codes = new Int8Array(stride);
    const groupBytes = 4 * stride;
    for (let place = 0; place < n; place++) {
      readSync(rows, values, 0, 4 * R, 4 * R * order[place]);
      if (place < longRows(n)) long.write(valueBytes);
      for (let j = 0; j < R; j++) x[j] = values[j] * scales[j];
      rotate(basis, x);
      const at = place % coarse.rows;
      const terms = quantiseRow(x, codes, fine.codes.subarray(at * stride));
      const group = (at >> 2) * groupBytes;
      interleave(codes, at & 3, coarse.codes.subarray(group, group + groupBytes));
      coarse.terms.setFloat32(COARSE_TERMS * at, terms.scale, true);
      coarse.terms.setFloat32(COARSE_TERMS * at + 4, terms.norm, true);
      coarse.terms.setFloat32(COARSE_TERMS * at + 8, terms.residual, true);
      coarse.terms.setInt32(COARSE_TERMS * at + 12, terms.codeSum, true);
      fine.terms.setFloat32(FINE_TERMS * at, terms.fineScale, true);
      fine.terms.setFloat32(FINE_TERMS * at + 4, terms.fineResidual, true);
      if (at + 1 === coarse.rows || place + 1 === n) {
        coarse.flush(at + 1, 4 * Math.ceil((at + 1) / 4));
        fine.flush(at + 1, at + 1);
        onRow(place + 1);
      }
    }
    coarse.write(bytesOf(order), HEADER_BYTES);
  } finally {
    closeSync(rows);
    long.close();
    coarse.close();
    fine.close();
  }
}

/** A plane file being written, some rows at a time: their codes and their terms, each to its place. */
function planeWriter(
  file: string,
  kind: "coarse" | "fine",
  n: number,
  R: number,
  { termsAt, codesAt, bytes }: PlaneLayout,
  termBytes: number,
) {
  const stride = strideOf(R);
  const rows = rowsAtOnce(R);
  const descriptor = openSync(file, "w");
  const write = (data: Uint8Array, position: number) => {
    for (let done = 0; done < data.length; )
      done += writeSync(descriptor, data, done, data.length - done, position + done);
  };
  ftruncateSync(descriptor, bytes);
  write(encodeHeader({ kind, n, dimension: R, stride }), 0);
  let flushed = 0;
  const writer = {
    /** Rows that are held until they are flushed; a multiple of four. */
    rows,
    terms: new DataView(new ArrayBuffer(rows * termBytes)),
    /** What no row sets is zero. */
    codes: new Int8Array(rows * stride),
    /** Writes the terms of the rows held, and the codes of as many, whole groups where the plane has groups. */
    flush(held: number, coded: number) {
      write(new Uint8Array(writer.terms.buffer, 0, held * termBytes), termsAt + flushed * termBytes);
      write(new Uint8Array(writer.codes.buffer, 0, coded * stride), codesAt + flushed * stride);
      writer.codes.fill(0);
      flushed += held;
    },
    write,
    close: () => closeSync(descriptor),
  };
  return writer;
}

/** A multiple of four, the rows of a group. */
const rowsAtOnce = (R: number): number => Math.max(1, Math.floor(CHUNK_BYTES / (16 * R))) * 4;

/** Rows first … first + count − 1 of rows.f32, valid until the next part. */
interface RowPart {
  first: number;
  count: number;
  /** [count, R] */
  values: Float32Array;
  bytes: Uint8Array;
}

function* rowParts(rows: number, n: number, R: number): Generator<RowPart> {
  const atOnce = Math.min(rowsAtOnce(R), n);
  const buffer = new Uint8Array(atOnce * 4 * R);
  for (let first = 0; first < n; first += atOnce) {
    const count = Math.min(atOnce, n - first);
    const bytes = buffer.subarray(0, count * 4 * R);
    readFully(rows, bytes, first * 4 * R);
    yield { first, count, values: new Float32Array(buffer.buffer, 0, count * R), bytes };
  }
}

function readFully(descriptor: number, target: Uint8Array, position: number): void {
  for (let done = 0; done < target.length; ) {
    const read = readSync(descriptor, target, done, target.length - done, position + done);
    if (read === 0) throw new RangeError(`${FILES.rows}: expected ${target.length} bytes at ${position}, got ${done}`);
    done += read;
  }
}
