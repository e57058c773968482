/** What the experiments are run on: a model to train, its examples and its queries. */
import type { LossKind } from "../../autodiff/losses.ts";
import type { Optimiser } from "../../train/optimiser.ts";
import type { Examples, Recipe } from "../../train/train.ts";

/** How many training examples and queries. */
export interface Scale {
  n: number;
  m: number;
}

export interface Task {
  /** As result files name it. */
  name: string;
  /** Bytes of the untrained model. */
  model: Uint8Array;
  loss: LossKind;
  /** Patterns of the parameters that train, and whose gradients count; by default all. */
  layers?: string[];
  optimiser: Optimiser;
  recipe: Recipe;
  train: Examples;
  queries: Examples;
  /** Which training labels are known to be wrong; null where none is. */
  wrong: boolean[] | null;
  /** Words of each text, for BM25; null where examples are not texts. */
  texts: { train: string[][]; queries: string[][] } | null;
}

export interface TaskOptions extends Scale {
  seed: number | string;
  /** Share of training labels to flip. */
  flip: number;
}
