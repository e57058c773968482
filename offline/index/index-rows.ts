/** From preconditioned rows to a searchable index: basis.bin, mixing.bin where it pays, coarse.bin, fine.bin, long.f32 and rows.crc32 beside rows.f32. */
import { closeSync, fstatSync, openSync, readSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { type Basis, balance, drawBasis, encodeBasis, rotate } from "../../src/core/basis.ts";
import { FILES, type MixingShape } from "../../src/core/manifest.ts";
import { encodeMixing } from "../../src/core/mixing.ts";
import { longRows } from "../../src/core/plane.ts";
import { bytesOf, openWriter } from "./index-files.ts";
import { openMixing } from "./mix-rows.ts";
import type { MixingDesign } from "./mixing.ts";
import { openPlanes, rowsAtOnce } from "./plane-files.ts";

export interface IndexRowsSettings {
  /** Rows and coordinates of rows.f32, float32 [n, R]. */
  n: number;
  R: number;
  /** [R] E g̃_j² over the training gradients: what queries look like. */
  queryMeanSquare: Float64Array;
  seed: number | string;
  /** Designs the mixing for a balance, exponents [R]; where it does not, or gives null, nothing is mixed. */
  mix?: (exponents: Int16Array) => MixingDesign | null;
  /** Called with rows done of `total`, over all passes. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Reads rows.f32 of `folder` three times, in parts, and writes basis.bin, coarse.bin, fine.bin, long.f32 and rows.crc32 beside it: the same
 * bytes for the same rows and settings on every platform. Holds some 16 MB, and eight bytes a row to order them. Returns how it is
 * mixed, for the manifest. Other work of this process gets its turn between a few rows and the next.
 * Throws RangeError for shapes that disagree or a value that is not finite, naming the row.
 */
export async function indexRows(folder: string, settings: IndexRowsSettings): Promise<MixingShape | null> {
  const { n, R, queryMeanSquare, seed, mix, onProgress } = settings;
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
        await setImmediate();
      }
    } finally {
      checksums.close();
    }

    const exponents = balance(squares, queryMeanSquare, n);
    const design = mix?.(exponents) ?? null;
    const basis = drawBasis(exponents, seed, design?.head ?? 0);
    writeFileSync(path.join(folder, FILES.basis), encodeBasis(basis, n));
    if (design !== null) writeFileSync(path.join(folder, FILES.mixing), encodeMixing(design.mixing, design.head, n));
    const transform = openTransform(basis, design);
    const keys = openOrder(n);
    for (const { first, count, values } of rowParts(rows, n, R)) {
      for (let at = 0; at < count; at += MIXED_TOGETHER) {
        const mixed = transform(values.subarray(R * at, R * Math.min(count, at + MIXED_TOGETHER)));
        for (let row = 0; row < mixed.length / R; row++) {
          keys.set(first + at + row, lengthOf(mixed.subarray(R * row, R * (row + 1))));
        }
        await setImmediate();
      }
      onProgress?.(n + first + count, 3 * n);
    }
    await writePlanes(folder, keys.order(), basis, design?.head ?? 0, transform, (done) =>
      onProgress?.(2 * n + done, 3 * n),
    );
    return design === null ? null : { blocks: [...design.mixing.blocks], head: design.head };
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

function lengthOf(row: Float64Array): number {
  let sum = 0;
  for (let j = 0; j < row.length; j++) sum += row[j]! ** 2;
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

/** The planes, and long.f32, rows in the order given. */
async function writePlanes(
  folder: string,
  order: Uint32Array,
  basis: Basis,
  head: number,
  transform: (values: Float32Array) => Float64Array,
  onRow: (done: number) => void,
): Promise<void> {
  const R = basis.dimension;
  const n = order.length;
  const planes = openPlanes(folder, n, R, head);
  // Rows come from all over the file, one at a time: synchronous reads take a fifth of the time of asynchronous ones.
  const rows = openSync(rowsName(folder), "r");
  const long = openWriter(path.join(folder, FILES.long));
  try {
    const values = new Float32Array(R * Math.min(n, MIXED_TOGETHER));
    for (let first = 0; first < n; first += MIXED_TOGETHER) {
      const count = Math.min(MIXED_TOGETHER, n - first);
      for (let at = 0; at < count; at++) readSync(rows, values, 4 * R * at, 4 * R, 4 * R * order[first + at]!);
      const kept = Math.min(count, Math.max(0, longRows(n) - first));
      long.write(bytesOf(values.subarray(0, R * kept)));
      const mixed = transform(values.subarray(0, R * count));
      for (let at = 0; at < count; at++) {
        const x = mixed.subarray(R * at, R * (at + 1));
        rotate(basis, x);
        planes.add(x);
      }
      onRow(first + count);
      await setImmediate();
    }
    planes.setOrder(order);
  } finally {
    closeSync(rows);
    long.close();
    planes.close();
  }
}

/** Rows that are mixed together. */
const MIXED_TOGETHER = 64;

/**
 * Balances and mixes at most MIXED_TOGETHER rows, [count, R] to [count, R] float64, which is valid until the next are. In memory of its own:
 * arrays made for each part would add up to a hundred megabytes before they are collected.
 */
function openTransform({ scales, dimension }: Basis, design: MixingDesign | null) {
  const shrinks = scales.map((scale) => (scale === 0 ? 0 : 1 / scale));
  const balanced = new Float64Array(MIXED_TOGETHER * dimension);
  const mix = design === null ? null : openMixing(design, MIXED_TOGETHER);
  return (values: Float32Array): Float64Array => {
    for (let from = 0; from < values.length; from += dimension) {
      for (let j = 0; j < dimension; j++) balanced[from + j] = values[from + j]! * shrinks[j]!;
    }
    const rows = balanced.subarray(0, values.length);
    return mix === null ? rows : mix(rows);
  };
}

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
