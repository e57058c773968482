/**
 * A shard: the compressed gradients of consecutive examples.
 *
 *   0  8 bytes  "IE-SHARD"          8  u32 format version (1)    12  u32 rows     16  u32 R     20  u32 first row
 *  24  32 bytes sha256 of the settings that made it              56  32 bytes sha256 of bytes 0-55 and everything after byte 88
 *  88  float32 [rows, R] compressed gradients, float32 [rows] loss (NaN: not known), int32 [rows] prediction (argmax; −1 where
 *      there is none), uint8 [rows] 1 for a row that counts, 0 for one left out because it was not finite (its values are 0)
 *
 * Little-endian. Written beside, then renamed: a file of this name is whole.
 */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, writeSync } from "node:fs";
import { bytesOf } from "../index/index-files.ts";

const MAGIC = "IE-SHARD";
const HEADER = 88;

export interface ShardRows {
  first: number;
  rows: number;
  dimension: number;
  /** [rows, R] float32, row-major. */
  gradients: Float32Array;
  /** [rows] float32. */
  loss: Float32Array;
  /** [rows] int32. */
  prediction: Int32Array;
  /** [rows] uint8. */
  valid: Uint8Array;
}

/** A shard to be filled: zeros, no prediction, every row valid. */
export function emptyShard(first: number, rows: number, dimension: number): ShardRows {
  return {
    first,
    rows,
    dimension,
    gradients: new Float32Array(rows * dimension),
    loss: new Float32Array(rows).fill(Number.NaN),
    prediction: new Int32Array(rows).fill(-1),
    valid: new Uint8Array(rows).fill(1),
  };
}

/** The shard's first `rows` rows as an empty shard of their own, in the same memory. */
export function emptied(shard: ShardRows, first: number, rows: number): ShardRows {
  return {
    first,
    rows,
    dimension: shard.dimension,
    gradients: shard.gradients.subarray(0, rows * shard.dimension).fill(0),
    loss: shard.loss.subarray(0, rows).fill(Number.NaN),
    prediction: shard.prediction.subarray(0, rows).fill(-1),
    valid: shard.valid.subarray(0, rows).fill(1),
  };
}

export function shardName(split: string, index: number): string {
  return `${split}-${String(index).padStart(5, "0")}.shard`;
}

/** Writes a shard so that a reader sees all of it or nothing. */
export function writeShard(path: string, shard: ShardRows, key: string): void {
  const parts = [bytesOf(shard.gradients), bytesOf(shard.loss), bytesOf(shard.prediction), shard.valid];
  const header = Buffer.alloc(HEADER);
  header.write(MAGIC, 0, "latin1");
  [1, shard.rows, shard.dimension, shard.first].forEach((value, index) => {
    header.writeUInt32LE(value, 8 + 4 * index);
  });
  header.write(key, 24, "hex");
  const hash = createHash("sha256").update(header.subarray(0, 56));
  for (const part of parts) hash.update(part);
  hash.digest().copy(header, 56);
  const part = `${path}.part`;
  const descriptor = openSync(part, "w");
  try {
    for (const bytes of [header, ...parts]) {
      for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    }
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(part, path);
}

/**
 * Reads a shard back, into `scratch` where that is large enough: the arrays are then valid until it is used again.
 * Throws an Error that names the file, what was expected and what was found.
 */
export function readShard(path: string, key: string, scratch?: ArrayBuffer): ShardRows {
  const descriptor = openSync(path, "r");
  try {
    const header = Buffer.alloc(HEADER);
    readSync(descriptor, header, 0, HEADER, 0);
    if (header.toString("latin1", 0, 8) !== MAGIC || header.readUInt32LE(8) !== 1) {
      throw new Error(`${path}: expected a shard of format 1, got other bytes; delete it and collect again`);
    }
    const [rows = 0, dimension = 0, first = 0] = [12, 16, 20].map((offset) => header.readUInt32LE(offset));
    const made = header.toString("hex", 24, 56);
    if (made !== key) {
      throw new Error(
        `${path}: expected a shard of settings ${key.slice(0, 12)}, got ${made.slice(0, 12)}; delete it and collect again`,
      );
    }
    const expected = HEADER + 4 * rows * dimension + 9 * rows;
    const { size } = fstatSync(descriptor);
    if (size !== expected) {
      throw new Error(
        `${path}: expected ${expected} bytes, got ${size}: it was cut short or changed; delete it and collect again`,
      );
    }
    const length = expected - HEADER;
    const payload =
      scratch && scratch.byteLength >= length ? new Uint8Array(scratch, 0, length) : new Uint8Array(length);
    for (let done = 0; done < payload.length; ) {
      done += readSync(descriptor, payload, done, Math.min(payload.length - done, 1 << 30), HEADER + done);
    }
    const wanted = header.toString("hex", 56, 88);
    const got = createHash("sha256").update(header.subarray(0, 56)).update(payload).digest("hex");
    if (got !== wanted) {
      throw new Error(`${path}: expected sha256 ${wanted}, got ${got}: it was changed; delete it and collect again`);
    }
    const gradients = new Float32Array(payload.buffer, 0, rows * dimension);
    return {
      first,
      rows,
      dimension,
      gradients,
      loss: new Float32Array(payload.buffer, gradients.byteLength, rows),
      prediction: new Int32Array(payload.buffer, gradients.byteLength + 4 * rows, rows),
      valid: new Uint8Array(payload.buffer, gradients.byteLength + 8 * rows, rows),
    };
  } finally {
    closeSync(descriptor);
  }
}

/** Rows that count, of one or several shards. */
export interface RowBlock {
  rows: number;
  /** [rows, R] float32. */
  gradients: Float32Array;
  /** [rows]: their rows in the dataset. */
  index: Uint32Array;
  loss: Float32Array;
  prediction: Int32Array;
}

/**
 * All rows that count in blocks of `size` rows (the last may be shorter), whatever the shards' own sizes: sums in floating
 * point then do not depend on how the shards were cut. A block is valid until the next one is asked for.
 */
export function* rowBlocks(shards: Iterable<ShardRows>, size: number): Generator<RowBlock> {
  let gradients: Float32Array | undefined;
  let width = 0;
  const index = new Uint32Array(size);
  const loss = new Float32Array(size);
  const prediction = new Int32Array(size);
  const block = (rows: number): RowBlock => ({
    rows,
    gradients: gradients?.subarray(0, rows * width) ?? new Float32Array(),
    index: index.subarray(0, rows),
    loss: loss.subarray(0, rows),
    prediction: prediction.subarray(0, rows),
  });
  let filled = 0;
  for (const shard of shards) {
    width = shard.dimension;
    gradients ??= new Float32Array(size * width);
    for (let row = 0; row < shard.rows; ) {
      if (shard.valid[row] === 0) {
        row++;
        continue;
      }
      let end = row + 1;
      while (end < shard.rows && end - row < size - filled && shard.valid[end] === 1) end++;
      gradients.set(shard.gradients.subarray(row * width, end * width), filled * width);
      loss.set(shard.loss.subarray(row, end), filled);
      prediction.set(shard.prediction.subarray(row, end), filled);
      for (; row < end; row++) index[filled++] = shard.first + row;
      if (filled === size) {
        yield block(size);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield block(filled);
}
