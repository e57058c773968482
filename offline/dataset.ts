/** A dataset as the steps see it: batches of model inputs and targets in a fixed order, with ids, columns and images. */
import { createHash } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import { Tensor } from "onnxruntime-node";
import * as z from "zod";
import type { Metadata } from "../src/core/manifest.ts";
import { type Config, configured, type SplitConfig } from "./config.ts";
import { type IdxFile, openIdx } from "./idx.ts";
import type { TensorSpec } from "./tensor-spec.ts";

export interface GreyImage {
  width: number;
  height: number;
  /** [height, width] unsigned bytes, 0 black. */
  pixels: Uint8Array;
}

export interface Dataset {
  n: number;
  id(row: number): string;
  /** Feeds for gradient.onnx: the model's inputs and `target` of the given rows, in their order. */
  feeds(rows: readonly number[]): Record<string, Tensor>;
  /** Columns that the dataset itself knows: `label`, and `flipped` and `was` where labels were changed. */
  columns(): Metadata["columns"];
  /** The picture of a row; null when the dataset has none. */
  image: ((row: number) => GreyImage) | null;
  /** sha256 of everything that determines the rows. */
  digest(): Promise<string>;
}

const flippedSchema = z.object({
  flipped: z.array(z.object({ index: z.int().nonnegative(), was: z.int(), label: z.int() })),
});

async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

/** Extents that the model fixes: a named or unknown axis takes anything. */
function checkShape(what: string, wanted: readonly (number | string)[], got: readonly number[]): void {
  const fits =
    wanted.length === got.length && wanted.every((extent, axis) => typeof extent !== "number" || extent === got[axis]);
  if (!fits) {
    throw new Error(
      `${what}: the model expects extents [${wanted.join(", ")}], the dataset has [${got.join(", ")}]; set \`shape\` for it or use the model's own data`,
    );
  }
}

function tensorOf(type: string, bytes: Uint8Array, divideBy: number, dims: number[]): Tensor {
  if (type === "float32")
    return new Tensor(
      "float32",
      Float32Array.from(bytes, (value) => value / divideBy),
      dims,
    );
  if (type === "int64")
    return new Tensor(
      "int64",
      BigInt64Array.from(bytes, (value) => BigInt(value)),
      dims,
    );
  if (type === "int32") return new Tensor("int32", Int32Array.from(bytes), dims);
  if (type === "uint8") return new Tensor("uint8", bytes, dims);
  throw new Error(
    `the model takes ${type}, which a file of bytes cannot give; expected float32, int64, int32 or uint8`,
  );
}

/** The given rows of a file, one after another; neighbours are read together. */
function readRows(file: IdxFile, rows: readonly number[]): Uint8Array {
  const values = new Uint8Array(rows.length * file.width);
  for (let start = 0; start < rows.length; ) {
    let end = start + 1;
    while (end < rows.length && rows[end] === rows[end - 1]! + 1) end++;
    values.set(file.read(rows[start]!, end - start), start * file.width);
    start = end;
  }
  return values;
}

/** How many labels the loss can tell apart, where the model says so (null: unknown). */
export interface TargetLimits {
  classes: number | null;
}

/**
 * Opens a split of the configured dataset for a model with the given inputs.
 * Throws an Error that names file or field when files are missing, lengths differ, or extents do not fit the model.
 */
export function openDataset(
  config: Config,
  split: SplitConfig,
  inputs: readonly TensorSpec[],
  target: TensorSpec,
  limits: TargetLimits,
): Dataset {
  const files = inputs.map((input) => {
    const entry = split.inputs[input.name];
    if (!entry) {
      const given = Object.keys(split.inputs).join(", ") || "none";
      throw new Error(`inputs: the model expects an input named ${input.name}, the configuration gives: ${given}`);
    }
    const file = openIdx(configured(config, entry.idx));
    const shape = entry.shape ?? file.shape.slice(1);
    const size = shape.reduce((product, extent) => product * extent, 1);
    if (size !== file.width) {
      throw new Error(
        `inputs.${input.name}: shape [${shape.join(", ")}] has ${size} values, an example of ${file.path} ${file.width}`,
      );
    }
    checkShape(`inputs.${input.name}`, input.shape.slice(1), shape);
    return { input, file, shape, divideBy: entry.divideBy };
  });
  const labels: IdxFile = openIdx(configured(config, split.target.idx));
  const first = files[0];
  if (!first) throw new Error("the model has no inputs");
  const rows = labels.shape[0] ?? 0;
  for (const { file } of files) {
    if (file.shape[0] !== rows) {
      throw new Error(`${file.path}: expected ${rows} examples as in ${labels.path}, got ${file.shape[0]}`);
    }
  }
  const n = Math.min(rows, split.limit ?? rows);
  if (n === 0) throw new Error(`${labels.path}: the dataset is empty; expected at least one example`);

  const id = (row: number) => `${split.idPrefix}${String(row).padStart(5, "0")}`;
  const label = labels.read(0, n);
  const columns: Metadata["columns"] = {};
  if (split.flipped !== undefined) {
    const path = configured(config, split.flipped);
    const changes = flippedSchema.parse(JSON.parse(readFileSync(path, "utf8"))).flipped;
    const flipped: boolean[] = new Array(n).fill(false);
    const was = Array.from(label);
    for (const change of changes) {
      if (change.index >= n) continue;
      if (label[change.index] !== change.was) {
        throw new Error(
          `${path}: index ${change.index}: expected the label ${change.was}, the dataset has ${label[change.index]}`,
        );
      }
      label[change.index] = change.label;
      flipped[change.index] = true;
    }
    columns.flipped = flipped;
    columns.was = was;
  }
  if (limits.classes !== null) {
    const { classes } = limits;
    const wrong = label.findIndex((value) => value >= classes);
    if (wrong >= 0) {
      throw new Error(
        `example ${id(wrong)}: expected a label of 0 … ${classes - 1}, as many as the model has outputs, got ${label[wrong]}`,
      );
    }
  }
  columns.label = Array.from(label);

  const pictured = split.image === undefined ? undefined : files.find(({ input }) => input.name === split.image);
  if (split.image !== undefined && !pictured) throw new Error(`image: no input named ${split.image}`);

  return {
    n,
    id,
    columns: () => columns,
    feeds: (wanted) => {
      const feeds: Record<string, Tensor> = {};
      for (const { input, file, shape, divideBy } of files) {
        feeds[input.name] = tensorOf(input.type, readRows(file, wanted), divideBy, [wanted.length, ...shape]);
      }
      const targets = Uint8Array.from(wanted, (row) => label[row] ?? 0);
      feeds[target.name] = tensorOf(target.type, targets, split.target.divideBy, [wanted.length]);
      return feeds;
    },
    image: pictured
      ? (row) => {
          const [height = 1, width = 1] = pictured.shape.slice(-2);
          return { width, height, pixels: pictured.file.read(row, 1).slice(0, width * height) };
        }
      : null,
    digest: async () => {
      const hash = createHash("sha256");
      for (const { file, shape, divideBy } of files) {
        hash.update(JSON.stringify([await sha256OfFile(file.path), shape, divideBy]));
      }
      hash.update(label).update(JSON.stringify([n, split.idPrefix]));
      return hash.digest("hex");
    },
  };
}
