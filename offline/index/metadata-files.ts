/** What an index says of each example beside its vector: ids, columns, pictures. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { Packr } from "msgpackr";
import { imagePackHead } from "../../src/core/image-pack.ts";
import type { Metadata } from "../../src/core/manifest.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { type ShardRows, validRows } from "../gradients/shard.ts";
import { openWriter } from "./index-files.ts";

/** Plain maps: the record structures of msgpackr compile code, which Workers forbid. */
const msgpack = new Packr({ useRecords: false });

/** Seven significant digits, a float32's worth, so that JSON does not carry seventeen. */
export const sevenDigits = (value: number): number => Number(value.toPrecision(7));

/** What collecting learnt of the examples that count, in order. */
export interface Measured {
  /** Their rows in the dataset. */
  rows: number[];
  loss: number[];
  prediction: number[];
}

/** Passes shards on and notes what they say of their examples. */
export function* measuring(shards: Iterable<ShardRows>, measured: Measured): Generator<ShardRows> {
  for (const shard of shards) {
    for (const row of validRows(shard)) {
      measured.rows.push(shard.first + row);
      measured.loss.push(sevenDigits(shard.loss[row]!));
      measured.prediction.push(shard.prediction[row]!);
    }
    yield shard;
  }
}

/** Writes ids and columns of the examples that count; a loss or prediction nobody knows is left out. */
export async function writeMetadata(
  path: string,
  dataset: Dataset,
  measured: Measured,
  more: Metadata["columns"] = {},
): Promise<void> {
  const own = Object.entries(await dataset.columns());
  const columns: Metadata["columns"] = Object.fromEntries(
    own.map(([name, values]) => [name, measured.rows.map((row) => values[row] ?? null)]),
  );
  if (measured.prediction.some((label) => label >= 0)) columns.prediction = measured.prediction;
  if (measured.loss.every((loss) => Number.isFinite(loss))) columns.loss = measured.loss;
  const metadata: Metadata = { ids: measured.rows.map(dataset.id), columns: { ...columns, ...more } };
  writeFileSync(path, msgpack.pack(metadata));
}

/** Pictures handed to an encoder at once. */
const CHUNK = 500;

/** Encodes the pictures of the given rows on all cores: [rows] PNG files. */
async function encodeImages(image: NonNullable<Dataset["image"]>, rows: readonly number[]): Promise<Uint8Array[]> {
  const chunks = Array.from({ length: Math.ceil(rows.length / CHUNK) }, (_, index) =>
    rows.slice(index * CHUNK, (index + 1) * CHUNK),
  );
  const files: Uint8Array[][] = new Array(chunks.length);
  const threads = Array.from(
    { length: Math.min(chunks.length, availableParallelism()) },
    () =>
      new Worker(new URL("./image-encoder.ts", import.meta.url), {
        resourceLimits: { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 128 },
      }),
  );
  try {
    let next = 0;
    await Promise.all(
      threads.map(async (thread) => {
        while (next < chunks.length) {
          const chunk = next++;
          const images = await Promise.all(chunks[chunk]!.map(image));
          const done = once(thread, "message");
          thread.postMessage({ chunk, images });
          const [answer]: { files: Uint8Array[] }[] = await done;
          files[chunk] = answer!.files;
        }
      }),
    );
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
  return files.flat();
}

/** Writes the pictures of the given rows; nothing when the dataset has none. */
export async function writeImages(path: string, dataset: Dataset, rows: readonly number[]): Promise<void> {
  if (!dataset.image) return;
  const pictures = await encodeImages(dataset.image, rows);
  const writer = openWriter(path);
  writer.write(imagePackHead(pictures.map((picture) => picture.length)));
  for (const picture of pictures) writer.write(picture);
  writer.close();
}
