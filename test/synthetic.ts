/** A small published index with known contents: what a bucket holds of it, by key. Built through the same code as a real one. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { encode as encodePng } from "fast-png";
import { Packr } from "msgpackr";
import { bytesOf, describeFile, rowChecksums } from "../offline/index/index-files.ts";
import { indexRows } from "../offline/index/index-rows.ts";
import { designMixing, type MixingDesign } from "../offline/index/mixing.ts";
import { imagePackHead } from "../src/core/image-pack.ts";
import {
  FILES,
  type Fidelity,
  FORMAT,
  fileKey,
  type Manifest,
  type Metadata,
  type MixingShape,
  manifestSchema,
  pointerKey,
} from "../src/core/manifest.ts";
import { uniformMask } from "../src/core/mask.ts";
import { encodeMask } from "../src/core/mask-file.ts";
import { random } from "../src/core/random.ts";

export interface Synthetic {
  name: string;
  seed: number;
  /** Training rows, stored queries. */
  n: number;
  queries: number;
  /** With images the columns are those of digits; without, those of short texts. */
  images: boolean;
  /** R is 64, of vectors that mostly lie in a few directions, so that the index is mixed; else 32, of independent numbers. */
  mixed?: boolean;
}

const LAYERS = [
  { name: "conv", d: 100, r: 12 },
  { name: "dense", d: 1000, r: 20 },
];
const FLIPPED_EVERY = 9;
const MISCLASSIFIED_EVERY = 4;

const layersOf = ({ mixed }: Synthetic) => LAYERS.map(({ r, ...layer }) => ({ ...layer, r: mixed ? 2 * r : r }));
const dimensionOf = (settings: Synthetic) => layersOf(settings).reduce((sum, { r }) => sum + r, 0);

const msgpack = new Packr({ useRecords: false });

/** Keys and bytes of a published index. The version follows from the contents. */
export async function syntheticObjects(settings: Synthetic): Promise<Map<string, Uint8Array>> {
  const folder = await mkdtemp(path.join(tmpdir(), "synthetic-"));
  try {
    const mixing = await writeFiles(folder, settings);
    const files: Manifest["files"] = {};
    const contents = new Map<string, Uint8Array>();
    for (const file of (await readdir(folder)).sort()) {
      const bytes = await readFile(path.join(folder, file));
      files[file] = describeFile(folder, file);
      contents.set(file, bytes);
    }
    const manifest = manifestOf(settings, mixing, files);
    const encoded = Buffer.from(JSON.stringify(manifest));
    contents.set(FILES.manifest, encoded);
    const pointer = { version: manifest.version, manifestSha256: sha256(encoded) };
    const objects = new Map<string, Uint8Array>();
    for (const [file, bytes] of contents) objects.set(fileKey(settings.name, manifest.version, file), bytes);
    objects.set(pointerKey(settings.name), Buffer.from(JSON.stringify(pointer)));
    return objects;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Made up, but of the form that `verify` writes. */
function fidelityOf(layers: string[], R: number): Fidelity {
  const alike = (share: number) => ({
    spearman: share,
    top10Helpful: share,
    top10Harmful: share,
    top100Helpful: share,
    top100Harmful: share,
  });
  return {
    verdict: `R = ${R} is enough (9.1 of ten), R = 8 is not (4.0 of ten). \`compressor: grid\` does worse.`,
    examples: 200,
    queries: 20,
    agreement: alike(0.91),
    betweenSeeds: alike(0.72),
    sizes: [
      { dimension: 8, ...alike(0.4) },
      { dimension: R, ...alike(0.91) },
    ],
    compressors: [
      { kind: "dropout", ...alike(0.91) },
      { kind: "grid", ...alike(0.3) },
    ],
    layers: layers.map((name, index) => ({
      name,
      share: 1 / layers.length,
      spearman: 0.9 - index / 10,
      top10Helpful: 0.9,
      condition: 300,
    })),
  };
}

function manifestOf(settings: Synthetic, mixing: MixingShape | null, files: Manifest["files"]): Manifest {
  const { name, seed, n, queries, images } = settings;
  let offset = 0;
  const layers = layersOf(settings).map(({ name, d, r }) => {
    const layer = { name, offset, r, d, parameters: [{ name: `${name}.weight`, shape: [d] }], damping: 0.1, trace: 1 };
    offset += r;
    return layer;
  });
  const contents = {
    format: FORMAT,
    name,
    title: `Synthetic ${name}`,
    n,
    queries,
    dimension: offset,
    ...(mixing === null ? {} : { mixing }),
    layers,
    compressor: { kind: "dropout", seed },
    dampingRule: "default",
    loss: "cross-entropy",
    classes: Array.from({ length: 10 }, (_, label) => String(label)),
    fidelity: fidelityOf(
      layers.map(({ name }) => name),
      offset,
    ),
    columns: {
      examples: Object.keys((images ? digits : texts)("train", 0).columns),
      queries: Object.keys(withPrediction((images ? digits : texts)("test", 0)).columns),
    },
    files,
  };
  return manifestSchema.parse({ ...contents, version: sha256(Buffer.from(JSON.stringify(contents))).slice(0, 16) });
}

async function writeFiles(folder: string, settings: Synthetic): Promise<MixingShape | null> {
  const { seed, n, queries, images } = settings;
  const R = dimensionOf(settings);
  const write = (file: string, bytes: Uint8Array) => writeFile(path.join(folder, file), bytes);
  const { rows, stored, mix } = settings.mixed ? correlatedVectors(settings) : independentVectors(settings);
  await write(FILES.rows, bytesOf(rows));
  const mixing = await indexRows(folder, { n, R, queryMeanSquare: new Float64Array(R).fill(1), seed, mix });
  await write(FILES.queries, bytesOf(stored));
  await write(FILES.queryChecksums, bytesOf(rowChecksums(stored, R)));
  const mask = uniformMask(
    LAYERS.map(({ name, d }) => ({ name, d, parameters: [{ name: `${name}.weight`, shape: [d] }] })),
    layersOf(settings).map(({ r }) => r),
    seed,
  );
  await write(FILES.mask, encodeMask(mask));
  await write(FILES.gradientGraph, bytesOf(gaussian(seed, "graph", 1000)));
  await write(FILES.examples, msgpack.pack(images ? digits("train", n) : texts("train", n)));
  await write(
    FILES.queryMetadata,
    msgpack.pack(withPrediction(images ? digits("test", queries) : texts("test", queries))),
  );
  if (images) {
    await write(FILES.exampleImages, imagePack(n, seed));
    await write(FILES.queryImages, imagePack(queries, seed + 1));
  }
  return mixing;
}

/** Of an index: rows [n, R], stored queries [queries, R], and what designs its mixing. */
interface Vectors {
  rows: Float32Array;
  stored: Float32Array;
  mix: (exponents: Int16Array) => MixingDesign | null;
}

function independentVectors(settings: Synthetic): Vectors {
  const { seed, n, queries } = settings;
  const R = dimensionOf(settings);
  return { rows: gaussian(seed, "rows", n * R), stored: gaussian(seed, "queries", queries * R), mix: () => null };
}

/** Queries are like the training gradients, and rows lie in other directions than they. Throws where no mixing pays. */
function correlatedVectors(settings: Synthetic): Vectors {
  const { name, seed, n, queries } = settings;
  const R = dimensionOf(settings);
  const rows = correlated(seed, "rows", n, R);
  const asked = correlated(seed, "queries", n + queries, R);
  const layers = layersOf(settings).map(({ r }) => r);
  const mix = (exponents: Int16Array) => {
    const design = designMixing({ gradients: asked.subarray(0, n * R), rows }, { R, exponents, layers, n });
    if (design === null) throw new Error(`${name}: expected that mixing ${n} rows of ${R} pays, got no mixing`);
    return design;
  };
  return { rows, stored: asked.slice(n * R), mix };
}

/** [count, R]: sums of four directions, each with a weight of its own, and a tenth of noise. */
function correlated(seed: number, purpose: string, count: number, R: number): Float32Array {
  const { normal } = random(seed, purpose);
  const directions = Array.from({ length: 4 }, () => Float64Array.from({ length: R }, normal));
  const values = new Float32Array(count * R);
  for (let i = 0; i < count; i++) {
    const weights = directions.map(normal);
    for (let j = 0; j < R; j++) {
      values[i * R + j] = directions.reduce((sum, direction, s) => sum + weights[s]! * direction[j]!, normal() / 10);
    }
  }
  return values;
}

function gaussian(seed: number, purpose: string, length: number): Float32Array {
  const { normal } = random(seed, purpose);
  return Float32Array.from({ length }, normal);
}

function digits(split: string, n: number): Metadata {
  const was = Array.from({ length: n }, (_, row) => row % 10);
  const flipped = was.map((_, row) => split === "train" && row % FLIPPED_EVERY === 0);
  const label = was.map((digit, row) => (flipped[row] ? (digit + 1) % 10 : digit));
  const columns: Metadata["columns"] = split === "train" ? { label, flipped, was } : { label };
  return { ids: was.map((_, row) => `${split}-${row}`), columns };
}

function texts(split: string, n: number): Metadata {
  const ids = Array.from({ length: n }, (_, row) => `${split}/${row % 2 === 0 ? "ham" : "spam"} ${row}`);
  return {
    ids,
    columns: {
      label: ids.map((_, row) => row % 2),
      text: ids.map((id) => `The text of ${id}, long enough to fill a line or two of a narrow column.`),
    },
  };
}

function withPrediction({ ids, columns }: Metadata): Metadata {
  const label = columns.label ?? [];
  const prediction = label.map((value, row) => (row % MISCLASSIFIED_EVERY === 1 ? (Number(value) + 5) % 10 : value));
  const loss = label.map((_, row) => 0.01 * row + (row % MISCLASSIFIED_EVERY === 1 ? 1 : 0));
  return { ids, columns: { ...columns, prediction, loss } };
}

/** Pictures of digits in seven segments, each a little different. */
function imagePack(count: number, seed: number): Uint8Array {
  const { below } = random(seed, "images");
  const pictures = Array.from({ length: count }, (_, row) =>
    encodePng({ width: 28, height: 28, data: drawDigit(row % 10, below(4), below(4)), channels: 1, depth: 8 }),
  );
  return Buffer.concat([imagePackHead(pictures.map((picture) => picture.length)), ...pictures]);
}

/** Segments top, upper left, upper right, middle, lower left, lower right, bottom, as bits from the highest. */
const SEGMENTS = [
  0b1110111, 0b0010010, 0b1011101, 0b1011011, 0b0111010, 0b1101011, 0b1101111, 0b1010010, 0b1111111, 0b1111011,
];
/** x, y, width, height of each segment. */
const STROKES = [
  [8, 4, 10, 2],
  [7, 5, 2, 8],
  [17, 5, 2, 8],
  [8, 12, 10, 2],
  [7, 13, 2, 8],
  [17, 13, 2, 8],
  [8, 20, 10, 2],
] as const;

function drawDigit(digit: number, dx: number, dy: number): Uint8Array {
  const pixels = new Uint8Array(28 * 28);
  STROKES.forEach(([x, y, width, height], segment) => {
    if (!((SEGMENTS[digit] ?? 0) & (1 << (6 - segment)))) return;
    for (let v = y + dy; v < y + dy + height; v++) pixels.fill(255 - 30 * dx, 28 * v + x + dx, 28 * v + x + dx + width);
  });
  return pixels;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
