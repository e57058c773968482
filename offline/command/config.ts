/** The configuration of a build: one YAML (or JSON) file that says what goes in. Paths in it are relative to the file. */
import { readFileSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import { parse, YAMLParseError } from "yaml";
import * as z from "zod";
import { indexName } from "../../src/core/manifest.ts";

/** One column of a dataset file. */
const columnFile = z.strictObject({
  /** A file, a pattern (`train-*.parquet`), or several files in order. `.gz` is unpacked. */
  file: z.union([z.string(), z.array(z.string()).min(1)]),
  /** Default: by the file's name (.npy .npz .safetensors .parquet .jsonl .ndjson; -ubyte and .idx: IDX). */
  format: z.enum(["idx", "npy", "npz", "safetensors", "parquet", "jsonl"]).optional(),
  /** The array in an .npz or .safetensors file, or the column of a Parquet or JSON Lines file. */
  column: z.string().optional(),
  /** Extents of one example as the model takes it; default: those of the file. */
  shape: z.array(z.int().positive()).optional(),
  /** Each value is divided by this. */
  divideBy: z.number().default(1),
  /** A tokenizer.json that turns the column's text into token ids. */
  tokenizer: z.string().optional(),
  /** Tokens beyond this many are cut off. */
  maxLength: z.int().positive().optional(),
  /** Fills lists shorter than their batch's longest. Default: 0, and −100 (ignored) for a target. */
  pad: z.int().optional(),
});
export type ColumnFile = z.infer<typeof columnFile>;

const inputSchema = z.union([
  columnFile,
  /** 1 where the named input has a token, 0 where it is padded. */
  z.strictObject({ maskOf: z.string() }),
  /** Zeros in the shape of the named input. */
  z.strictObject({ zerosLike: z.string() }),
]);

const targetSchema = z.union([
  columnFile,
  /** Language modelling: at each position the token id that comes next in the named input, −100 (ignored) at the end and where it is padded. */
  z.strictObject({ labelsOf: z.string() }),
]);

const splitSchema = z.strictObject({
  /** One entry per model input, by the input's name. */
  inputs: z.record(z.string(), inputSchema).default({}),
  target: targetSchema.optional(),
  /** Gradients computed elsewhere, [n, R] compressed or [n, d] whole, in place of a model, inputs and target. */
  gradients: columnFile.optional(),
  /** A column of unique ids; default: `idPrefix` and the row's number, "train-00042". */
  ids: columnFile.optional(),
  idPrefix: z
    .string()
    .regex(/^[A-Za-z0-9._-]*$/, "expected letters, digits, dot, dash or underscore")
    .default(""),
  /** Columns carried to the index and shown with each example, by the name to show. */
  columns: z.record(z.string(), columnFile).default({}),
  /** A JSON file of labels changed on purpose: {"flipped": [{"index", "was", "label"}]}. Adds the columns `flipped` and `was`. */
  flipped: z.string().optional(),
  /** The model input that is shown as an image: extents [channels, height, width] with 1 or 3 channels, or [height, width]. */
  image: z.string().optional(),
  /** Use only the first `limit` examples. */
  limit: z.int().positive().optional(),
});
export type SplitConfig = z.infer<typeof splitSchema>;

const dampingRule = z.enum(["default", "paper", "trace"]);

export const configSchema = z.strictObject({
  /** The index's name in the bucket and in its address. */
  name: indexName,
  title: z.string().optional(),
  /**
   * The ONNX file; not needed where every split gives `gradients`. Several are checkpoints of one model: an ensemble, of which each
   * has its own `r`, and influences are the means of theirs.
   */
  model: z.union([z.string(), z.array(z.string()).min(2)]).optional(),
  /** An ensemble of as many masks of each model, drawn from the seeds `seed/1`, `seed/2`, …, each with its own `r`. */
  ensemble: z.strictObject({ masks: z.int().min(2) }).optional(),
  loss: z
    .enum(["cross-entropy", "next-token", "binary-cross-entropy", "squared-error", "output"])
    .default("cross-entropy"),
  /** The model output that the loss reads; default: the first. */
  output: z.string().optional(),
  /** Name patterns of the layers to cover, "!" in front to leave out; default: all that reach the loss. */
  layers: z.array(z.string()).optional(),
  /** Kept coordinates: in total, split equally over the layers, or for each layer. */
  r: z
    .union([
      z.strictObject({ total: z.int().positive() }),
      z.strictObject({ perLayer: z.int().positive() }),
      z
        .int()
        .positive()
        .transform((total) => ({ total })),
    ])
    .optional(),
  /** Names and sizes of the blocks that imported gradients consist of; default: one block. */
  blocks: z
    .array(z.strictObject({ name: z.string(), d: z.int().positive() }))
    .min(1)
    .optional(),
  /**
   * Which coordinates are kept. `eigenbasis`: those of largest mean square in the eigenvectors of each parameter's gradients;
   * `importance`: drawn in proportion to their estimated mean square; `sjlt`: eight times as many drawn so, then added with random
   * signs into so many; all three measured on `calibrate` examples. `uniform`: the paper's; `grid`: random rows × random columns.
   * Default: `eigenbasis`; of imported gradients, whose model is not known, only `uniform` can be.
   */
  compressor: z.enum(["eigenbasis", "importance", "uniform", "grid", "sjlt"]).optional(),
  calibrate: z.int().positive().default(1024),
  /** For next-token: an example's loss is the mean or the sum over its counted tokens. */
  reduction: z.enum(["mean", "sum"]).optional(),
  /**
   * A rule (fit.ts), a rule times a factor, or a number, λ itself; `held-out`: fit chooses a factor of the rule `trace` on examples
   * that it leaves out (held-out.ts). Changing it makes only `fit` and `index` anew.
   */
  damping: z
    .union([
      dampingRule,
      z.literal("held-out"),
      z.strictObject({ rule: dampingRule, factor: z.number().positive() }),
      z.number().positive(),
    ])
    .default("default"),
  /** One block of the Hessian a layer, or one over all coordinates. */
  hessian: z.enum(["layers", "joint"]).default("layers"),
  seed: z.union([z.number(), z.string()]).default(0),
  train: splitSchema,
  /** Examples whose gradients are stored with the index, so that they can be asked for by id. */
  queries: splitSchema.optional(),
  /** Names of the labels 0, 1, 2, …. */
  classes: z.array(z.string()).optional(),
  /** Examples in a batch; `--memory` chooses it instead. */
  batch: z.int().positive().default(100),
  /** Examples in a shard. */
  shard: z.int().positive().default(10_000),
});

export type Compressor = NonNullable<z.infer<typeof configSchema>["compressor"]>;

/** R where the configuration sets none. */
export const DEFAULT_R = { total: 512 };

export type Config = z.infer<typeof configSchema> & {
  title: string;
  compressor: Compressor;
  /** The folder that paths in the configuration start from. */
  folder: string;
};

/** Reads and checks a configuration. Throws an Error of one line a fault: field, expected, got. */
export function readConfig(path: string): Config {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new Error(`no such configuration: ${path}; try fixtures/mnist-cnn/influence.yaml`);
  }
  let raw: unknown;
  try {
    raw = parse(text);
  } catch (error) {
    if (error instanceof YAMLParseError) throw new Error(`${path}: not YAML: ${error.message.split("\n")[0]}`);
    throw error;
  }
  const parsed = configSchema.safeParse(raw);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(
      (issue) => `${path}: ${issue.path.join(".") || "the file"}: ${issue.message}`,
    );
    throw new Error(faults.join("\n"));
  }
  const isImport = parsed.data.train.gradients !== undefined;
  if (isImport && ![undefined, "uniform"].includes(parsed.data.compressor)) {
    throw new Error(
      `${path}: compressor: expected uniform for imported gradients, whose inputs and cotangents are not known, got ${parsed.data.compressor}; leave it out, or give the model`,
    );
  }
  const name = parsed.data.name ?? basename(path, extname(path));
  const { compressor = isImport ? "uniform" : "eigenbasis" } = parsed.data;
  return { ...parsed.data, compressor, name, title: parsed.data.title ?? name, folder: dirname(resolve(path)) };
}

/** The absolute path of a file that the configuration names. */
export function configured(config: Config, path: string): string {
  return resolve(config.folder, path);
}
