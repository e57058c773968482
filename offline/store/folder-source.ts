/** An index version in a folder of this machine. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import type { IndexSource } from "../../src/core/source.ts";

/** Bytes that one read of a stream takes: few, large reads. */
const STREAM_BYTES = 1024 * 1024;

export function folderSource(folder: string): IndexSource {
  return {
    async stream(file, part) {
      const handle = await open(path.join(folder, file), "r");
      const range = part === undefined ? {} : { start: part.offset, end: part.offset + part.length - 1 };
      return createReadStream("", { fd: handle, highWaterMark: STREAM_BYTES, ...range });
    },
    async range(file, offset, length) {
      const handle = await open(path.join(folder, file), "r");
      try {
        const bytes = new Uint8Array(length);
        const { bytesRead } = await handle.read(bytes, 0, length, offset);
        if (bytesRead < length) {
          throw new RangeError(
            `${file}: expected ${length} bytes at ${offset}, got ${bytesRead}; build the index again`,
          );
        }
        return bytes;
      } finally {
        await handle.close();
      }
    },
  };
}
