/** An index of some rows and coordinates of another, mixed as its own build would mix it: to measure what another size costs. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { readShard, rowBlocks, type ShardRows } from "../gradients/shard.ts";
import { describeFile } from "./index-files.ts";
import { indexRows } from "./index-rows.ts";
import { designMixing } from "./mixing.ts";
import { openTypical, type Typical } from "./typical.ts";

const BLOCK_ROWS = 1000;

/** R of `width` coordinates, spread over all: [R], ascending. */
export const spreadOver = (width: number, R: number): number[] =>
  Array.from({ length: R }, (_, j) => Math.floor((j * width) / R));

/** What the training gradients of a part are like. */
export interface PartGradients {
  /** A sample of them, paired with their rows. */
  typical: Typical;
  /** [R] E g̃_j². */
  meanSquare: Float64Array;
}

/**
 * The gradients of the first `rows` rows of the index in `folder`, the R coordinates `spread` of each, from the shards of the run that it
 * lies in. Null where there is no such run, or its shards are of another index. Throws an Error for a shard that was changed.
 */
export function partGradients(
  folder: string,
  { dimension }: Manifest,
  rows: number,
  spread: readonly number[],
): PartGradients | null {
  const R = spread.length;
  const sample = openTypical(R);
  const meanSquare = new Float64Array(R);
  const [gradient, made] = [new Float32Array(R), new Float32Array(R)];
  const pick = (values: Float32Array, row: number, picked: Float32Array) => {
    for (let j = 0; j < R; j++) picked[j] = values[row * dimension + spread[j]!]!;
  };
  const stored = openSync(join(folder, FILES.rows), "r");
  const preconditioned = new Float32Array(BLOCK_ROWS * dimension);
  let first = 0;
  try {
    for (const block of rowBlocks(trainShards(folder), BLOCK_ROWS)) {
      if (block.gradients.length !== block.rows * dimension) return null;
      readSync(stored, preconditioned, 0, 4 * block.rows * dimension, 4 * first * dimension);
      for (let row = 0; row < block.rows && first + row < rows; row++) {
        pick(block.gradients, row, gradient);
        pick(preconditioned, row, made);
        sample.add(first + row, gradient, made);
        for (let j = 0; j < R; j++) meanSquare[j]! += gradient[j]! ** 2 / rows;
      }
      first += block.rows;
      if (first >= rows) return { typical: sample.rows(), meanSquare };
    }
  } finally {
    closeSync(stored);
  }
  return null;
}

/** The shards of the training gradients from which the run's fit was made; none where there are no such. */
function* trainShards(index: string): Generator<ShardRows> {
  const [fit, collect] = [join(index, "..", "fit", "step.json"), join(index, "..", "collect")];
  if (!existsSync(fit) || !existsSync(collect)) return;
  const { shards } = JSON.parse(readFileSync(fit, "utf8"));
  const names = readdirSync(collect).filter((file) => /^train-\d+\.shard$/.test(file));
  const paths = names.sort().map((name) => join(collect, name));
  // They may have been collected anew since.
  if (paths.some((path) => settingsOf(path) !== shards)) return;
  let scratch: ArrayBuffer | undefined;
  for (const path of paths) {
    const shard = readShard(path, shards, scratch);
    if (shard.gradients.buffer instanceof ArrayBuffer) scratch ??= shard.gradients.buffer;
    yield shard;
  }
}

/** sha256 of the settings that made a shard, as its header says. */
function settingsOf(path: string): string {
  const header = Buffer.alloc(56);
  const descriptor = openSync(path, "r");
  readSync(descriptor, header);
  closeSync(descriptor);
  return header.toString("hex", 24);
}

/**
 * Indexes the rows.f32 that lies in `folder`, n rows of the coordinates `spread` of the index that `whole` describes. Without `typical`
 * nothing is mixed. Returns its manifest.
 */
export async function indexPart(
  folder: string,
  whole: Manifest,
  n: number,
  spread: readonly number[],
  { typical, meanSquare }: Pick<PartGradients, "meanSquare"> & { typical: Typical | null },
): Promise<Manifest> {
  const R = spread.length;
  const layers = whole.layers
    .map(({ offset, r }) => spread.filter((j) => j >= offset && j < offset + r).length)
    .filter((width) => width > 0);
  const mix = (exponents: Int16Array) => typical && designMixing(typical, { R, exponents, layers, n });
  const { seed } = whole.compressor;
  const mixing = await indexRows(folder, { n, R, queryMeanSquare: meanSquare, seed, mix });
  const files: Manifest["files"] = {};
  const made = [FILES.basis, FILES.coarse, FILES.fine, FILES.long, FILES.rows, FILES.rowChecksums];
  for (const name of mixing === null ? made : [...made, FILES.mixing]) files[name] = describeFile(folder, name);
  const { mixing: _, ...rest } = whole;
  const manifest = { ...rest, n, dimension: R, ...(mixing === null ? {} : { mixing }), files };
  writeFileSync(join(folder, FILES.manifest), JSON.stringify(manifest));
  return manifest;
}
