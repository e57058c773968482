/** From preconditioned rows to a searchable index: basis.bin, coarse.bin, fine.bin, long.f32 and rows.crc32 beside rows.f32. */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { type FileHandle, open, writeFile } from "node:fs/promises";
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
 * bytes for the same rows and settings on every platform. Holds some 16 MB and 40 bytes a row.
 * Throws RangeError for shapes that disagree or a value that is not finite, naming the row.
 */
export async function indexRows(folder: string, settings: IndexRowsSettings): Promise<void> {
  const { n, R, queryMeanSquare, seed, onProgress } = settings;
  if (queryMeanSquare.length !== R) {
    throw new RangeError(`queryMeanSquare: expected ${R} values, got ${queryMeanSquare.length}`);
  }
  const rows = await open(path.join(folder, FILES.rows), "r");
  try {
    const { size } = await rows.stat();
    if (size !== 4 * n * R) {
      throw new RangeError(`${rowsName(folder)}: expected ${4 * n * R} bytes for ${n} × ${R} float32, got ${size}`);
    }
    const checksums = new Uint32Array(n);
    const squares = new Float64Array(R);
    await eachRow(rows, n, R, (row, values, bytes) => {
      checksums[row] = crc32(bytes);
      addSquares(rowsName(folder), row, values, squares);
      onProgress?.(row + 1, 3 * n);
    });
    await writeFile(path.join(folder, FILES.rowChecksums), checksums);

    const basis = drawBasis(balance(squares, queryMeanSquare, n), seed);
    await writeFile(path.join(folder, FILES.basis), encodeBasis(basis, n));
    const scales = Float64Array.from(basis.exponents, (exponent) => (exponent === DROPPED ? 0 : 2 ** -exponent));
    const norms = new Float64Array(n);
    await eachRow(rows, n, R, (row, values) => {
      norms[row] = values.reduce((sum, value, j) => sum + (value * scales[j]) ** 2, 0);
      onProgress?.(n + row + 1, 3 * n);
    });
    const order = Uint32Array.from(norms.keys()).sort((a, b) => norms[b] - norms[a] || a - b);
    await writePlanes(folder, order, basis, scales, (done) => onProgress?.(2 * n + done, 3 * n));
  } finally {
    await rows.close();
  }
}

const rowsName = (folder: string): string => path.join(folder, FILES.rows);

function addSquares(file: string, row: number, values: Float32Array, squares: Float64Array): void {
  for (let j = 0; j < values.length; j++) {
    const value = values[j];
    if (!Number.isFinite(value)) {
      throw new RangeError(
        `${file}, row ${row}, coordinate ${j}: expected a finite value, got ${value}; check the fit`,
      );
    }
    squares[j] += value * value;
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
  const coarse = await planeWriter(path.join(folder, FILES.coarse), "coarse", n, R, coarseLayout(n, R));
  const fine = await planeWriter(path.join(folder, FILES.fine), "fine", n, R, fineLayout(n, R));
  // Rows come from all over the file, one at a time: synchronous reads take a fifth of the time of asynchronous ones.
  const rows = openSync(rowsName(folder), "r");
  const long = await open(path.join(folder, FILES.long), "w");
  try {
    const values = new Float32Array(R);
    const x = new Float64Array(R);
    const codes = new Int8Array(stride);
    for (let place = 0; place < n; place++) {
      readSync(rows, values, 0, 4 * R, 4 * R * order[place]);
      if (place < longRows(n)) writeSync(long.fd, values);
      for (let j = 0; j < R; j++) x[j] = values[j] * scales[j];
      rotate(basis, x);
      const terms = quantiseRow(x, codes, fine.codes.subarray(fine.used));
      if (place % 4 === 0) coarse.used += 4 * stride;
      interleave(codes, place % 4, coarse.codes.subarray(coarse.used - 4 * stride));
      coarse.terms.setFloat32(COARSE_TERMS * place, terms.scale, true);
      coarse.terms.setFloat32(COARSE_TERMS * place + 4, terms.norm, true);
      coarse.terms.setFloat32(COARSE_TERMS * place + 8, terms.residual, true);
      coarse.terms.setInt32(COARSE_TERMS * place + 12, terms.codeSum, true);
      fine.terms.setFloat32(FINE_TERMS * place, terms.fineScale, true);
      fine.terms.setFloat32(FINE_TERMS * place + 4, terms.fineResidual, true);
      fine.used += stride;
      if (fine.used === fine.codes.length) {
        await coarse.flush();
        await fine.flush();
      }
      onRow(place + 1);
    }
    await coarse.finish();
    await coarse.write(new Uint8Array(order.buffer), HEADER_BYTES);
    await fine.finish();
  } finally {
    closeSync(rows);
    await long.close();
    await coarse.close();
    await fine.close();
  }
}

/** A plane file being written: codes as they come, the terms of all rows last. */
async function planeWriter(file: string, kind: "coarse" | "fine", n: number, R: number, layout: PlaneLayout) {
  const handle = await open(file, "w");
  const stride = strideOf(R);
  const terms = new DataView(new ArrayBuffer(layout.codesAt - layout.termsAt));
  let at = layout.codesAt;
  const writer = {
    terms,
    /** Codes not yet written, the first `used` bytes; what no row sets is zero. */
    codes: new Int8Array(rowsAtOnce(R) * stride),
    used: 0,
    async flush() {
      await handle.write(new Uint8Array(writer.codes.buffer, 0, writer.used), 0, writer.used, at);
      at += writer.used;
      writer.codes.fill(0, 0, writer.used);
      writer.used = 0;
    },
    async finish() {
      await writer.flush();
      await handle.write(encodeHeader({ kind, n, dimension: R, stride }), 0, undefined, 0);
      await handle.write(new Uint8Array(terms.buffer), 0, undefined, layout.termsAt);
      await handle.truncate(layout.bytes);
    },
    write: (bytes: Uint8Array, position: number) => handle.write(bytes, 0, undefined, position),
    close: () => handle.close(),
  };
  return writer;
}

/** A multiple of four, the rows of a group. */
const rowsAtOnce = (R: number): number => Math.max(1, Math.floor(CHUNK_BYTES / (16 * R))) * 4;

/** Calls `visit` with each row's index, its values and its bytes, both overwritten later. */
async function eachRow(
  rows: FileHandle,
  n: number,
  R: number,
  visit: (row: number, values: Float32Array, bytes: Uint8Array) => void,
): Promise<void> {
  const atOnce = rowsAtOnce(R);
  const buffer = new Uint8Array(Math.min(atOnce, n) * 4 * R);
  for (let first = 0; first < n; first += atOnce) {
    const count = Math.min(atOnce, n - first);
    await readFully(rows, buffer.subarray(0, count * 4 * R), first * 4 * R);
    for (let index = 0; index < count; index++) {
      const start = index * 4 * R;
      visit(first + index, new Float32Array(buffer.buffer, start, R), buffer.subarray(start, start + 4 * R));
    }
  }
}

async function readFully(handle: FileHandle, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await handle.read(target, done, target.length - done, position + done);
    if (bytesRead === 0)
      throw new RangeError(`${FILES.rows}: expected ${target.length} bytes at ${position}, got ${done}`);
    done += bytesRead;
  }
}
