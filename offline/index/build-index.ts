/** Index: p_i = (H̃ + λI)⁻¹ g̃_i for every training example, the searchable planes, queries, metadata, and the manifest. */
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type * as z from "zod";
import { FILES, FORMAT, type Manifest, manifestSchema } from "../../src/core/manifest.ts";
import type { MaskBlock } from "../../src/core/mask.ts";
import { encodeMask, maskShapes } from "../../src/core/mask-file.ts";
import type { StepProgress } from "../command/progress.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { rowBlocks, type ShardRows } from "../gradients/shard.ts";
import type { LayerFit } from "../hessian/fit.ts";
import { openBlockProduct, type ProductDevice } from "../hessian/matrix.ts";
import { writeImages } from "./image-files.ts";
import { bytesOf, describeFile, openWriter, rowChecksums } from "./index-files.ts";
import { indexRows } from "./index-rows.ts";
import { type Measures, openMeasures } from "./measures.ts";
import { writeMetadata } from "./metadata-files.ts";
import { designMixing } from "./mixing.ts";
import { openTypical } from "./typical.ts";

/** Rows preconditioned at once. */
const BLOCK_ROWS = 2000;
/** Each row is preconditioned, then read three times for its planes. */
const PASSES = 4;

/** What the manifest says of the index beside what the files show. */
export type Description = Pick<Manifest, "name" | "title" | "compressor" | "dampingRule" | "loss" | "fidelity"> & {
  classes?: string[] | undefined;
  layers: { name: string; d: number; parameters: { name: string; shape: number[] }[] }[];
};

export interface SplitRows {
  dataset: Dataset;
  shards: Iterable<ShardRows>;
}

/** Stores the queries' gradients as they are. Returns how many there are, and the names of what is known of them. */
async function writeQueries(folder: string, { dataset, shards }: SplitRows, dimension: number) {
  const stored = openWriter(join(folder, FILES.queries));
  const checksums = openWriter(join(folder, FILES.queryChecksums));
  const measures = openMeasures(join(folder, "queries.measures"));
  for (const block of rowBlocks(shards, BLOCK_ROWS)) {
    stored.write(bytesOf(block.gradients));
    checksums.write(bytesOf(rowChecksums(block.gradients, dimension)));
    for (let row = 0; row < block.rows; row++) measures.add(block, row, Number.NaN);
  }
  stored.close();
  checksums.close();
  const columns = await writeMetadata(join(folder, FILES.queryMetadata), dataset, measures, false);
  await writeImages(join(folder, FILES.queryImages), dataset, measures);
  measures.remove();
  return { n: measures.n, columns };
}

/** Writes what is known of the examples, and their pictures. Returns the names of the columns. */
async function describeExamples(folder: string, dataset: Dataset, measures: Measures): Promise<string[]> {
  const columns = await writeMetadata(join(folder, FILES.examples), dataset, measures, true);
  await writeImages(join(folder, FILES.exampleImages), dataset, measures);
  return columns;
}

/** Writes all files of an index version into `folder`; the manifest comes last. */
export async function buildIndex(
  folder: string,
  description: Description,
  compiled: { graph: string | null; mask: MaskBlock[]; dimension: number; seed: number | string; members?: number },
  fitted: { layers: LayerFit[]; inverses: Float64Array[] },
  train: SplitRows,
  queries: SplitRows | null,
  progress: StepProgress,
  where: ProductDevice = {},
): Promise<Manifest> {
  const { dimension } = compiled;
  // Influences add up over blocks; divided by the members of an ensemble they are means.
  const { members = 1 } = compiled;
  const inverses =
    members > 1 ? fitted.inverses.map((inverse) => inverse.map((value) => value / members)) : fitted.inverses;
  const product = await openBlockProduct(fitted.layers, inverses, dimension, where);
  const rows = openWriter(join(folder, FILES.rows));
  const sumOfSquares = new Float64Array(dimension);
  const typical = openTypical(dimension);
  let offered = 0;
  const measures = openMeasures(join(folder, "examples.measures"));
  try {
    for (const block of rowBlocks(train.shards, BLOCK_ROWS)) {
      const preconditioned = await product.multiply(block.gradients, block.rows);
      rows.write(bytesOf(preconditioned));
      for (let row = 0; row < block.rows; row++) {
        const [from, to] = [row * dimension, (row + 1) * dimension];
        typical.add(offered++, block.gradients.subarray(from, to), preconditioned.subarray(from, to));
        let inner = 0;
        for (let j = 0; j < dimension; j++) {
          const g = block.gradients[row * dimension + j]!;
          sumOfSquares[j]! += g * g;
          inner += g * preconditioned[row * dimension + j]!;
        }
        measures.add(block, row, -inner);
      }
      progress.advance(block.rows / PASSES);
    }
  } finally {
    await product.release();
    rows.close();
  }
  const { n } = measures;
  const queryMeanSquare = sumOfSquares.map((sum) => sum / n);
  const widths = fitted.layers.map(({ r }) => r);
  const mix = (exponents: Int16Array) => designMixing(typical.rows(), { R: dimension, exponents, layers: widths, n });
  let advanced = 0;
  const onProgress = (done: number, total: number) => {
    progress.advance(((done - advanced) / total) * n * (1 - 1 / PASSES));
    advanced = done;
  };
  // Pictures are encoded on other threads meanwhile. Neither is left at work where the other fails.
  const [indexed, metadata] = await Promise.allSettled([
    indexRows(folder, { n, R: dimension, queryMeanSquare, seed: compiled.seed, mix, onProgress }),
    describeExamples(folder, train.dataset, measures),
  ]);
  if (indexed.status === "rejected") throw indexed.reason;
  if (metadata.status === "rejected") throw metadata.reason;
  const [mixing, examples] = [indexed.value, metadata.value];
  measures.remove();
  const stored = queries ? await writeQueries(folder, queries, dimension) : { n: 0, columns: [] };
  writeFileSync(join(folder, FILES.mask), encodeMask(compiled.mask));
  if (compiled.graph !== null) copyFileSync(compiled.graph, join(folder, FILES.gradientGraph));

  const files: Manifest["files"] = {};
  const written = readdirSync(folder).filter(
    (file) => Object.values(FILES).some((known) => known === file) && file !== FILES.manifest,
  );
  for (const file of written.sort()) files[file] = describeFile(folder, file);
  const { layers, ...described } = description;
  return writeManifest(folder, {
    format: FORMAT,
    ...described,
    n,
    queries: stored.n,
    dimension,
    ...(mixing === null ? {} : { mixing }),
    columns: { examples, queries: stored.columns },
    layers: maskShapes(layers, compiled.mask).map((shape) => {
      const block = fitted.layers.findLast((candidate) => candidate.offset <= shape.offset);
      return { ...shape, damping: block?.damping ?? 0, trace: block?.trace ?? 0 };
    }),
    files,
  });
}

/** The manifest of files that stay as they are, with something else said of them; null where it has an earlier form. */
export function describeAnew(
  folder: string,
  described: Pick<Description, "name" | "title" | "fidelity" | "classes">,
): Manifest | null {
  const before = manifestSchema.safeParse(JSON.parse(readFileSync(join(folder, FILES.manifest), "utf8")));
  if (!before.success) return null;
  const { classes: _, ...rest } = before.data;
  return writeManifest(folder, { ...rest, ...described });
}

/** Writes the manifest; its version is a hash of all else that it says. */
function writeManifest(folder: string, contents: Omit<z.input<typeof manifestSchema>, "version">): Manifest {
  // Parsed first, so that the order of what was given does not matter.
  const canonical = manifestSchema.omit({ version: true }).parse(contents);
  const version = createHash("sha256").update(JSON.stringify(canonical)).digest("hex").slice(0, 16);
  const manifest = manifestSchema.parse({ ...canonical, version });
  writeFileSync(join(folder, FILES.manifest), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}
