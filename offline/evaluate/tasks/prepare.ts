/** From a task to what compressors and estimators work on: a trained model and the full gradients of examples and queries. */
import { sizeOf } from "../../../src/core/mask.ts";
import { compileGradient, differentiate } from "../../compile/compile.ts";
import { calibrate } from "../../compress/calibrate.ts";
import { weightOf } from "../../compress/importance.ts";
import { readModel } from "../../onnx/model.ts";
import { train } from "../../train/train.ts";
import { openTrainer, type State, type Trainer, withParameters } from "../../train/trainer.ts";
import { collectBlocks, type Gradients } from "../gradients.ts";
import { THREADS } from "../product.ts";
import { asFile } from "./files.ts";
import type { Task } from "./task.ts";

/** The calibration batch of the product: enough for two vectors a layer. */
export const CALIBRATION = 256;

export interface Prepared {
  task: Task;
  n: number;
  m: number;
  /** The n training rows first, then the m queries. */
  gradients: Gradients;
  /** Losses of the training examples, then of the queries: [n + m]. */
  losses: Float32Array;
  /** The product's estimate of each position's mean square, by layer. */
  factored: ((position: number) => number)[];
}

const range = (count: number) => Array.from({ length: count }, (_, row) => row);

const chosenOf = ({ loss, layers }: Task) => ({ loss, ...(layers ? { layers } : {}) });

export const trainerFor = (task: Task, threads = THREADS): Promise<Trainer> =>
  asFile(task.model, (path) => openTrainer(path, { ...chosenOf(task), optimiser: task.optimiser, threads }));

/** The bytes of the task's model with these parameters. */
export const trainedModel = (task: Task, state: State): Promise<Uint8Array> =>
  asFile(task.model, async (path) => withParameters(path, state.parameters));

/** Trains on the given rows (all by default). */
export async function trained(task: Task, rows?: readonly number[]): Promise<State> {
  const trainer = await trainerFor(task);
  try {
    return (await train(trainer, task.train, task.recipe, rows)).state;
  } finally {
    await trainer.release();
  }
}

/** Trains the task (unless given a trained model's bytes) and collects the full gradients of its examples and queries. */
export async function prepare(task: Task, model?: Uint8Array): Promise<Prepared> {
  const bytes = model ?? (await trainedModel(task, await trained(task)));
  return asFile(bytes, async (path) => {
    const chosen = chosenOf(task);
    const { layers, gradients: perExample } = differentiate(await readModel(path), path, chosen);
    const d = layers.reduce((sum, layer) => sum + layer.d, 0);
    const compiled = await compileGradient(path, { ...chosen, r: { total: d }, compressor: "uniform", seed: 0 });
    const { blocks, losses } = await collectBlocks(compiled.graph, compiled.mask, [task.train, task.queries]);
    const gradients = {
      rows: task.train.n + task.queries.n,
      layers: compiled.layers.map((layer, index) => ({ layer, values: blocks[index]! })),
    };
    const sample = range(Math.min(CALIBRATION, task.train.n));
    const calibration = await calibrate(path, chosen, [await task.train.feeds(sample)]);
    const factored = layers.map((layer) => {
      const starts = layer.parameters.map((_, index) =>
        layer.parameters.slice(0, index).reduce((sum, parameter) => sum + sizeOf(parameter), 0),
      );
      const weights = layer.parameters.map(({ name }) => weightOf(name, perExample, calibration));
      return (position: number) => {
        let index = 0;
        while (position >= (starts[index + 1] ?? Number.POSITIVE_INFINITY)) index++;
        return weights[index]?.(position - (starts[index] ?? 0)) ?? 0;
      };
    });
    return { task, n: task.train.n, m: task.queries.n, gradients, losses, factored };
  });
}
