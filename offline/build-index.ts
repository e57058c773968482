/** Index: p_i = (H̃ + λI)⁻¹ g̃_i for every training example, the searchable planes, queries, metadata, and the manifest. */
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encode as encodePng } from "fast-png";
import { Packr } from "msgpackr";
import { imagePackHead } from "../src/core/image-pack.ts";
import { FILES, type Manifest, type Metadata, manifestSchema } from "../src/core/manifest.ts";
import type { MaskBlock } from "../src/core/mask.ts";
import { encodeMask } from "../src/core/mask-file.ts";
import type { Dataset } from "./dataset/dataset.ts";
import type { LayerFit } from "./fit.ts";
import { bytesOf, describeFile, openWriter, rowChecksums } from "./index-files.ts";
import { indexRows } from "./index-rows.ts";
import { openBlockProduct } from "./matrix.ts";
import type { StepProgress } from "./progress.ts";
import { gradientBlocks, type ShardRows } from "./shard.ts";

/** Rows preconditioned at once. */
const BLOCK_ROWS = 2000;

/** What the manifest says of the index beside what the files show. */
export type Description = Pick<Manifest, "name" | "title" | "compressor" | "dampingRule" | "loss" | "fidelity"> & {
  classes?: string[] | undefined;
  layers: { name: string; d: number; parameters: { name: string; shape: number[] }[] }[];
};

export interface SplitRows {
  dataset: Dataset;
  shards: Iterable<ShardRows>;
}

/** Plain maps: the record structures of msgpackr compile code, which Workers forbid. */
const msgpack = new Packr({ useRecords: false });

async function writeImages(path: string, dataset: Dataset): Promise<void> {
  if (!dataset.image) return;
  const pictures: Uint8Array[] = [];
  for (let row = 0; row < dataset.n; row++) {
    const { width, height, channels, pixels } = await dataset.image(row);
    pictures.push(encodePng({ width, height, data: pixels, channels, depth: 8 }));
  }
  const writer = openWriter(path);
  writer.write(imagePackHead(pictures.map((picture) => picture.length)));
  for (const picture of pictures) writer.write(picture);
  writer.close();
}

async function writeMetadata(path: string, dataset: Dataset, measured: Metadata["columns"]): Promise<void> {
  const metadata: Metadata = {
    ids: Array.from({ length: dataset.n }, (_, row) => dataset.id(row)),
    columns: { ...(await dataset.columns()), ...measured },
  };
  writeFileSync(path, msgpack.pack(metadata));
}

/** Seven significant digits, a float32's worth, so that JSON does not carry seventeen. */
const sevenDigits = (value: number) => Number(value.toPrecision(7));

/** Writes all files of an index version into `folder`; the manifest comes last. */
export async function buildIndex(
  folder: string,
  description: Description,
  compiled: { graph: string; mask: MaskBlock[]; dimension: number; seed: number | string },
  fitted: { layers: LayerFit[]; inverses: Float64Array[] },
  train: SplitRows,
  queries: SplitRows | null,
  progress: StepProgress,
): Promise<Manifest> {
  const { dimension } = compiled;
  const { n } = train.dataset;
  const product = await openBlockProduct(fitted.layers, fitted.inverses, dimension);
  const rows = openWriter(join(folder, FILES.rows));
  const meanSquare = new Float64Array(dimension);
  const loss: number[] = [];
  const prediction: number[] = [];
  const selfInfluence: number[] = [];
  function* noting(shards: Iterable<ShardRows>): Generator<ShardRows> {
    for (const shard of shards) {
      for (const value of shard.loss) loss.push(sevenDigits(value));
      for (const label of shard.prediction) prediction.push(label);
      yield shard;
    }
  }
  try {
    for (const block of gradientBlocks(noting(train.shards), BLOCK_ROWS)) {
      const preconditioned = await product.multiply(block.gradients, block.rows);
      rows.write(bytesOf(preconditioned));
      for (let row = 0; row < block.rows; row++) {
        let inner = 0;
        for (let j = 0; j < dimension; j++) {
          const g = block.gradients[row * dimension + j]!;
          meanSquare[j]! += (g * g) / n;
          inner += g * preconditioned[row * dimension + j]!;
        }
        selfInfluence.push(sevenDigits(-inner));
      }
      progress.advance(block.rows);
    }
  } finally {
    await product.release();
    rows.close();
  }
  await indexRows(folder, { n, R: dimension, queryMeanSquare: meanSquare, seed: compiled.seed });

  const predicted = (values: number[]): Metadata["columns"] =>
    values.every((value) => value < 0) ? {} : { prediction: values };
  await writeMetadata(join(folder, FILES.examples), train.dataset, { ...predicted(prediction), loss, selfInfluence });
  await writeImages(join(folder, FILES.exampleImages), train.dataset);
  if (queries) {
    const stored = openWriter(join(folder, FILES.queries));
    const checksums = openWriter(join(folder, FILES.queryChecksums));
    const queryLoss: number[] = [];
    const queryPrediction: number[] = [];
    for (const shard of queries.shards) {
      stored.write(bytesOf(shard.gradients));
      checksums.write(bytesOf(rowChecksums(shard.gradients, dimension)));
      for (const value of shard.loss) queryLoss.push(sevenDigits(value));
      queryPrediction.push(...shard.prediction);
    }
    stored.close();
    checksums.close();
    await writeMetadata(join(folder, FILES.queryMetadata), queries.dataset, {
      ...predicted(queryPrediction),
      loss: queryLoss,
    });
    await writeImages(join(folder, FILES.queryImages), queries.dataset);
  }
  writeFileSync(join(folder, FILES.mask), encodeMask(compiled.mask));
  copyFileSync(compiled.graph, join(folder, FILES.gradientGraph));

  const files: Manifest["files"] = {};
  const written = readdirSync(folder).filter(
    (file) => Object.values(FILES).some((known) => known === file) && file !== FILES.manifest,
  );
  for (const file of written.sort()) files[file] = await describeFile(folder, file);
  const { layers, ...described } = description;
  const contents = {
    format: "influence-edge/1" as const,
    ...described,
    n,
    queries: queries?.dataset.n ?? 0,
    dimension,
    layers: fitted.layers.map(({ name, offset, r, trace, damping }) => {
      const layer = layers.find((candidate) => candidate.name === name);
      return { name, offset, r, d: layer?.d ?? r, parameters: layer?.parameters ?? [], damping, trace };
    }),
    files,
  };
  const version = createHash("sha256").update(JSON.stringify(contents)).digest("hex").slice(0, 16);
  const manifest = manifestSchema.parse({ ...contents, version });
  writeFileSync(join(folder, FILES.manifest), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}
