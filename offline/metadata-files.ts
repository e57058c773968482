/** What an index says of each example beside its vector: ids, columns, pictures. */
import { writeFileSync } from "node:fs";
import { encode as encodePng } from "fast-png";
import { Packr } from "msgpackr";
import { imagePackHead } from "../src/core/image-pack.ts";
import type { Metadata } from "../src/core/manifest.ts";
import type { Dataset } from "./dataset/dataset.ts";
import { openWriter } from "./index-files.ts";
import { type ShardRows, validRows } from "./shard.ts";

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

/** Writes the pictures of the given rows; nothing when the dataset has none. */
export async function writeImages(path: string, dataset: Dataset, rows: readonly number[]): Promise<void> {
  if (!dataset.image) return;
  const pictures: Uint8Array[] = [];
  for (const row of rows) {
    const { width, height, channels, pixels } = await dataset.image(row);
    pictures.push(encodePng({ width, height, data: pixels, channels, depth: 8 }));
  }
  const writer = openWriter(path);
  writer.write(imagePackHead(pictures.map((picture) => picture.length)));
  for (const picture of pictures) writer.write(picture);
  writer.close();
}
