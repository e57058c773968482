/** The pictures of an index, encoded on all cores and written in order as they come. */
import { once } from "node:events";
import { closeSync, openSync, writeSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { imagePackHead } from "../../src/core/image-pack.ts";
import type { Dataset } from "../dataset/dataset.ts";
import type { Measures } from "./measures.ts";

/** Pictures handed to an encoder at once. */
const CHUNK = 500;

type Encode = (rows: readonly number[]) => Promise<Uint8Array[]>;

/** An encoder in a thread of its own; PNG files of the given rows, one call after another. */
function openEncoder(image: NonNullable<Dataset["image"]>): { encode: Encode; close(): Promise<unknown> } {
  const thread = new Worker(new URL("./image-encoder.ts", import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 128 },
  });
  let before: Promise<unknown> = Promise.resolve();
  const encode: Encode = async (rows) => {
    const images = await Promise.all(rows.map(image));
    const done = once(thread, "message");
    thread.postMessage({ images });
    const [answer]: { files: Uint8Array[] }[] = await done;
    return answer!.files;
  };
  return {
    encode: (rows) => {
      const result = before.then(() => encode(rows));
      before = result;
      return result;
    },
    close: () => thread.terminate(),
  };
}

function* chunksOf(measures: Measures): Generator<number[]> {
  for (const { rows } of measures.parts()) {
    for (let first = 0; first < rows.length; first += CHUNK) yield Array.from(rows.subarray(first, first + CHUNK));
  }
}

/** Writes the pictures of the examples measured; nothing when the dataset has none. Holds their lengths, and some chunks. */
export async function writeImages(path: string, { image }: Pick<Dataset, "image">, measures: Measures): Promise<void> {
  if (!image) return;
  const encoders = Array.from({ length: Math.min(Math.ceil(measures.n / CHUNK), availableParallelism()) }, () =>
    openEncoder(image),
  );
  const lengths = new Uint32Array(measures.n);
  const descriptor = openSync(path, "w");
  const write = (bytes: Uint8Array, position: number) => {
    for (let done = 0; done < bytes.length; )
      done += writeSync(descriptor, bytes, done, bytes.length - done, position + done);
  };
  let end = imagePackHead(lengths).length;
  let written = 0;
  const finish = async (chunk: Promise<Uint8Array[]>) => {
    for (const file of await chunk) {
      write(file, end);
      end += file.length;
      lengths[written++] = file.length;
    }
  };
  const underWay: Promise<Uint8Array[]>[] = [];
  try {
    // Two chunks for each encoder are under way, so that none waits while the oldest is written.
    let next = 0;
    for (const rows of chunksOf(measures)) {
      if (underWay.length === 2 * encoders.length) await finish(underWay.shift()!);
      underWay.push(encoders[next++ % encoders.length]!.encode(rows));
    }
    while (underWay.length > 0) await finish(underWay.shift()!);
    write(imagePackHead(lengths), 0);
  } finally {
    closeSync(descriptor);
    await Promise.allSettled(underWay);
    await Promise.all(encoders.map((encoder) => encoder.close()));
  }
}
