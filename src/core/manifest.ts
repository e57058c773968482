/**
 * What an index is: the one schema that the build writes and the edge reads. The manifest is the last file of a version to be
 * written; `current.json` (the pointer) then names the version to serve. No times or machine names: same inputs, same bytes.
 */
import * as z from "zod";
import { WIDEST_BLOCK } from "./mixing.ts";

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const xxh64 = z.string().regex(/^[0-9a-f]{16}$/);
const count = z.int().nonnegative();

export const indexName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, { error: "expected at most 63 of a-z, 0-9, '.', '_' and '-'" });
export const versionName = z.string().regex(/^[0-9a-f]{16}$/, { error: "expected 16 hexadecimal digits" });

/** The format of an index's files, FORMAT.md; a change of any byte's meaning changes it. */
export const FORMAT = "influence-edge/2";

/** One block of the R-dimensional vector. */
export const layerSchema = z.object({
  name: z.string(),
  /** First coordinate of the block. */
  offset: count,
  /** Coordinates of the block. */
  r: count,
  /** How many gradient entries are kept, where they are folded into the r by random signs; elsewhere r are. */
  kept: count.optional(),
  /** Entries of the layer's parameters. */
  d: count,
  parameters: z.array(
    z.object({
      name: z.string(),
      shape: z.array(count),
      /** Of the matrix that its gradient is seen as in orthonormal directions, the extents, and how many directions mask.bin holds a side. */
      directions: z.object({ rows: count, columns: count, left: count, right: count }).optional(),
    }),
  ),
  /** λ_l, and tr(H̃_l), of the compressed Gauss-Newton Hessian. */
  damping: z.number().nonnegative(),
  trace: z.number().nonnegative(),
});

/** How two rankings of the training examples agree, means over the queries. */
export const agreementSchema = z.object({
  /** Rank correlation over all examples, −1 … 1. */
  spearman: z.number(),
  /** Share of the one's ten (hundred) most helpful, or most harmful, that are among the other's. */
  top10Helpful: z.number(),
  top10Harmful: z.number(),
  top100Helpful: z.number(),
  top100Harmful: z.number(),
});
export type Agreement = z.infer<typeof agreementSchema>;

/** What `influence verify` measured: compressed against exact influence on a sample of the training set. */
export const fidelitySchema = z.object({
  /** What it means, in plain words. */
  verdict: z.string(),
  /** Training examples and queries of the sample. */
  examples: z.int().positive(),
  queries: z.int().positive(),
  /** This index's compression against exact influence. */
  agreement: agreementSchema,
  /** The same with another seed, against this one: what differs is chance. */
  betweenSeeds: agreementSchema,
  /** The same compressor at other R, ascending, this one's among them. */
  sizes: z.array(agreementSchema.extend({ dimension: z.int().positive() })),
  /** Every compressor at this R, this one's first. */
  compressors: z.array(agreementSchema.extend({ kind: z.string() })),
  layers: z.array(
    z.object({
      name: z.string(),
      /** The layer's part of all exact influence, by mean size: 0 … 1. */
      share: z.number(),
      /** Against the layer's own exact influence. */
      spearman: z.number(),
      top10Helpful: z.number(),
      /** λ_max / λ_min of the damped Hessian on the sample. */
      condition: z.number(),
    }),
  ),
});
export type Fidelity = z.infer<typeof fidelitySchema>;

export const mixingSchema = z.object({
  blocks: z.array(z.int().positive().max(WIDEST_BLOCK)).min(1),
  head: z.int().positive().multipleOf(16),
});
/** Shape of mixing.bin, and of the planes that it divides. */
export type MixingShape = z.infer<typeof mixingSchema>;

/** A file's length; its sha256, by which it is published and the version is named; and its XXH64 with seed 0, by which a reader checks it. */
const manifestFile = z.object({ bytes: count, sha256, xxh64 });
export type ManifestFile = z.infer<typeof manifestFile>;

export const manifestSchema = z.object({
  format: z.literal(FORMAT),
  name: indexName,
  version: versionName,
  title: z.string(),
  /** Training examples (rows), stored queries, and R. */
  n: z.int().positive(),
  queries: count,
  dimension: z.int().positive(),
  /** How mixing.bin mixes the coordinates, where it does: widths of blocks whose sum is R, and how many mixed coordinates are a row's head. */
  mixing: mixingSchema.optional(),
  layers: z.array(layerSchema).min(1),
  /** How the kept coordinates were chosen; `calibrationExamples`: on how many examples their importance was measured. */
  compressor: z.object({
    kind: z.string(),
    seed: z.union([z.string(), z.number()]),
    calibrationExamples: count.optional(),
  }),
  dampingRule: z.string(),
  loss: z.string(),
  /** Names of the classes by label, when the dataset has them. */
  classes: z.array(z.string()).optional(),
  /** What `influence verify` measured, null until it has run. */
  fidelity: fidelitySchema.nullable(),
  /** Names of the columns of the training examples, to filter and to group by, and of the stored queries. */
  columns: z.object({ examples: z.array(z.string()), queries: z.array(z.string()) }).optional(),
  /** Every file of this version but the manifest, by name. */
  files: z.record(z.string(), manifestFile),
});
export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestLayer = z.infer<typeof layerSchema>;

export const pointerSchema = z.object({ version: versionName, manifestSha256: sha256 });
export type Pointer = z.infer<typeof pointerSchema>;

/** Where things lie in the bucket: `indexes/<name>/current.json`, `indexes/<name>/<version>/<file>`. */
export const INDEXES = "indexes/";
export const pointerKey = (name: string): string => `${INDEXES}${name}/current.json`;
export const fileKey = (name: string, version: string, file: string): string => `${INDEXES}${name}/${version}/${file}`;

/** Metadata of the training examples (examples.msgpack) and of the stored queries (queries.msgpack), one entry a row. */
export const metadataSchema = z.object({
  ids: z.array(z.string()),
  /** Columns by name; `label` is the training label; a query also has `prediction` and `loss`; any other column is shown as it is. */
  columns: z.record(z.string(), z.array(z.union([z.number(), z.string(), z.boolean(), z.null()]))),
});
export type Metadata = z.infer<typeof metadataSchema>;

/** The files of a version. FORMAT.md draws their bytes. */
export const FILES = {
  manifest: "manifest.json",
  mask: "mask.bin",
  gradientGraph: "gradient.onnx",
  basis: "basis.bin",
  mixing: "mixing.bin",
  coarse: "coarse.bin",
  fine: "fine.bin",
  long: "long.f32",
  rows: "rows.f32",
  rowChecksums: "rows.crc32",
  queries: "queries.f32",
  queryChecksums: "queries.crc32",
  examples: "examples.msgpack",
  queryMetadata: "queries.msgpack",
  exampleImages: "examples.images",
  queryImages: "queries.images",
} as const;
