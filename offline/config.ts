/** The configuration of a build: one YAML (or JSON) file that says what goes in. Paths in it are relative to the file. */
import { readFileSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import { parse, YAMLParseError } from "yaml";
import * as z from "zod";
import { indexName } from "../src/core/manifest.ts";

/** A tensor column: an IDX file (MNIST's format), read as `type`, each value divided by `divideBy`. */
const tensorFile = z.strictObject({
  idx: z.string(),
  /** Extents of one example as the model takes it; default: those of the file. */
  shape: z.array(z.int().positive()).optional(),
  divideBy: z.number().positive().default(1),
});

const splitSchema = z.strictObject({
  /** One file per model input, by the input's name. */
  inputs: z.record(z.string(), tensorFile),
  target: tensorFile,
  /** Ids are this prefix and the row's number, zero-padded: "train-00042". */
  idPrefix: z.string().regex(/^[A-Za-z0-9._-]*$/, "expected letters, digits, dot, dash or underscore"),
  /** A JSON file of labels changed on purpose: {"flipped": [{"index", "was", "label"}]}. Adds the columns `flipped` and `was`. */
  flipped: z.string().optional(),
  /** The model input that is shown as an image: extents [1, height, width] or [height, width]. */
  image: z.string().optional(),
  /** Use only the first `limit` examples. */
  limit: z.int().positive().optional(),
});
export type SplitConfig = z.infer<typeof splitSchema>;

export const configSchema = z.strictObject({
  /** The index's name in the bucket and in its address. */
  name: indexName,
  title: z.string().optional(),
  model: z.string(),
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
    .default({ total: 512 }),
  compressor: z.enum(["uniform"]).default("uniform"),
  /** `default`: max(tr(H̃_l)/n, the paper's); `paper`: 0.1 · tr(H̃_l)/r_l; or a number, λ itself. */
  damping: z.union([z.enum(["default", "paper"]), z.number().positive()]).default("default"),
  seed: z.union([z.number(), z.string()]).default(0),
  train: splitSchema,
  /** Examples whose gradients are stored with the index, so that they can be asked for by id. */
  queries: splitSchema.optional(),
  /** Names of the labels 0, 1, 2, …. */
  classes: z.array(z.string()).optional(),
  /** Examples in a batch. */
  batch: z.int().positive().default(100),
  /** Examples in a shard, rounded up to whole batches. */
  shard: z.int().positive().default(10_000),
});

export type Config = z.infer<typeof configSchema> & {
  title: string;
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
  const name = parsed.data.name ?? basename(path, extname(path));
  return { ...parsed.data, name, title: parsed.data.title ?? name, folder: dirname(resolve(path)) };
}

/** The absolute path of a file that the configuration names. */
export function configured(config: Config, path: string): string {
  return resolve(config.folder, path);
}
