/** A file on its way into a bucket, checked as it goes. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { dirname } from "node:path";
import type { ListedFile } from "./bucket.ts";

const CHUNK_BYTES = 1024 * 1024;

/** Hands a file to `send` as checkedFile reads it; what is wrong with the file is thrown rather than what `send` makes of that. */
export async function sendChecked(
  file: ListedFile,
  advance: (bytes: number) => void,
  send: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
): Promise<void> {
  let fault: unknown;
  async function* bytes() {
    try {
      yield* checkedFile(file, advance);
    } catch (error) {
      fault = error;
      throw error;
    }
  }
  try {
    await send(bytes());
  } catch (error) {
    throw fault ?? error;
  }
}

/**
 * The bytes of a file. The last of them come only when all are known to be what is listed, so that whoever counts them never has a
 * changed file whole. `advance` is told of every chunk. Throws an Error that names the file otherwise.
 */
export async function* checkedFile(
  { path, bytes, sha256 }: ListedFile,
  advance: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let read = 0;
  let held: Uint8Array | undefined;
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
    if (held !== undefined) {
      yield held;
      advance(held.length);
    }
    hash.update(chunk);
    read += chunk.length;
    held = chunk;
  }
  const got = hash.digest("hex");
  if (got !== sha256 || read !== bytes) {
    throw new Error(
      `${path}: expected ${bytes} bytes of sha256 ${sha256}, got ${read} of ${got}; delete ${dirname(path)} and build again`,
    );
  }
  if (held !== undefined) {
    yield held;
    advance(held.length);
  }
}
