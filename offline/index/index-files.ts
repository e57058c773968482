/** Writing an index's files: streamed to disk, hashed on the way. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { Checksum } from "../../src/core/checksum.ts";
import type { ManifestFile } from "../../src/core/manifest.ts";
import { loadKernel } from "../serve/kernel.ts";

/** Appends byte arrays to a file. */
export function openWriter(path: string): { write(bytes: Uint8Array): void; close(): void } {
  const descriptor = openSync(path, "w");
  return {
    write: (bytes) => {
      for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    },
    close: () => closeSync(descriptor),
  };
}

/** The bytes of an array, where they lie. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** CRC-32 of each row of [rows, width] float32. */
export function rowChecksums(values: Float32Array, width: number): Uint32Array {
  const bytes = bytesOf(values);
  return Uint32Array.from({ length: values.length / width }, (_, row) =>
    crc32(bytes.subarray(4 * width * row, 4 * width * (row + 1))),
  );
}

const CHUNK = 1 << 20;

/** Gives `take` a file's bytes through one buffer: a stream's chunks are let go faster than their memory is given back. Returns their number. */
function readThrough(path: string, take: (chunk: Uint8Array) => void): number {
  const descriptor = openSync(path, "r");
  try {
    const chunk = new Uint8Array(CHUNK);
    let bytes = 0;
    for (let read = -1; read !== 0; bytes += read) {
      read = readSync(descriptor, chunk);
      take(chunk.subarray(0, read));
    }
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}

/** sha256 of a file's bytes. */
export function sha256OfFile(path: string): string {
  const hash = createHash("sha256");
  readThrough(path, (chunk) => hash.update(chunk));
  return hash.digest("hex");
}

/** What a manifest says of a file of a folder. */
export function describeFile(folder: string, file: string): ManifestFile {
  const hash = createHash("sha256");
  const checksum = new Checksum(loadKernel());
  const bytes = readThrough(join(folder, file), (chunk) => {
    hash.update(chunk);
    checksum.update(chunk);
  });
  return { bytes, sha256: hash.digest("hex"), xxh64: checksum.finish() };
}
