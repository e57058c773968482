/** The configured datasets, opened for a model's inputs or for gradients computed elsewhere. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { SplitConfig } from "../command/config.ts";
import type { Run } from "../command/run.ts";
import type { TensorSpec } from "../compile/tensor-spec.ts";
import { rowRanges } from "./column.ts";
import { type Dataset, openDataset } from "./dataset.ts";
import { digestOfSplit } from "./digest.ts";

/** What a model asks of a dataset. */
export interface Wanted {
  inputs: TensorSpec[];
  target: TensorSpec | null;
  /** How many labels the loss can tell apart; null: unknown. */
  classes: number | null;
}

const scratchOf = (run: Run) => join(run.folder, "scratch");

/** sha256 of what determines a split's gradients. */
export function digestOf(run: Run, split: SplitConfig): string {
  return digestOfSplit(run.config, split, scratchOf(run));
}

/** sha256 of what the index shows of each example. */
export async function digestOfColumns(datasets: readonly Dataset[]): Promise<string> {
  const hash = createHash("sha256");
  for (const { n, columns } of datasets) {
    for (const { name, read } of columns) {
      hash.update(JSON.stringify([n, name]));
      for (const rows of rowRanges(n)) hash.update(JSON.stringify(await read(rows)));
    }
  }
  return hash.digest("hex");
}

export function openSplit(run: Run, split: SplitConfig, wanted: Wanted | null): Promise<Dataset> {
  const { inputs, target, classes } = wanted ?? { inputs: [], target: null, classes: null };
  return openDataset(run.config, split, inputs, target, classes, scratchOf(run));
}

export async function openDatasets(
  run: Run,
  wanted: Wanted | null,
): Promise<{ train: Dataset; queries: Dataset | null }> {
  const { train, queries } = run.config;
  return {
    train: await openSplit(run, train, wanted),
    queries: queries ? await openSplit(run, queries, wanted) : null,
  };
}
