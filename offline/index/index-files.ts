/** Writing an index's files: streamed to disk, hashed on the way. */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, openSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";

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

/** Size and sha256 of a file. */
export async function describeFile(folder: string, file: string): Promise<{ bytes: number; sha256: string }> {
  const path = join(folder, file);
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return { bytes: statSync(path).size, sha256: hash.digest("hex") };
}
