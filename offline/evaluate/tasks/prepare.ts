/** From a task to what compressors and estimators work on: a trained model and the full gradients of examples and queries. */
import { sizeOf } from "../../../src/core/mask.ts";
import { type CompiledGradient, compileGradient, differentiate } from "../../compile/compile.ts";
import { calibrate } from "../../compress/calibrate.ts";
import { weightOf } from "../../compress/importance.ts";
import { openGradientSession } from "../../gradients/session.ts";
import { readModel } from "../../onnx/model.ts";
import { type Examples, train } from "../../train/train.ts";
import { openTrainer, type State, type Trainer, withParameters } from "../../train/trainer.ts";
import type { Gradients } from "../gradients.ts";
import { sideBySide, THREADS } from "../product.ts";
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

/** Full gradients, layer by layer, of all rows of several example sets, one after another. */
async function collect(compiled: CompiledGradient, sets: readonly Examples[]) {
  const session = await openGradientSession(compiled.graph);
  const rows = sets.reduce((sum, { n }) => sum + n, 0);
  const layers = compiled.layers.map((layer) => ({ layer, values: new Float32Array(rows * layer.d) }));
  const losses = new Float32Array(rows);
  const batches = sets.flatMap((set) =>
    Array.from({ length: Math.ceil(set.n / 20) }, (_, index) => ({
      set,
      rows: range(Math.min(20, set.n - 20 * index)).map((row) => 20 * index + row),
    })),
  );
  const place = async ({ set, rows: chosen }: (typeof batches)[number], first: number) => {
    const { gradient, loss } = await session.run(await set.feeds(chosen));
    if (!(gradient?.data instanceof Float32Array) || !(loss?.data instanceof Float32Array))
      throw new Error("gradient.onnx: expected float32 outputs gradient and loss");
    losses.set(loss.data, first);
    for (let row = 0; row < chosen.length; row++) {
      layers.forEach(({ layer, values }, index) => {
        const from = row * compiled.dimension + (compiled.mask[index]?.offset ?? 0);
        if (gradient.data instanceof Float32Array)
          values.set(gradient.data.subarray(from, from + layer.d), (first + row) * layer.d);
      });
    }
  };
  // Each operator has one thread: as many batches as there are threads run side by side.
  let at = 0;
  const firsts = batches.map((batch) => {
    at += batch.rows.length;
    return at - batch.rows.length;
  });
  await sideBySide(batches.length, (index) => place(batches[index]!, firsts[index]!));
  await session.release();
  return { gradients: { rows, layers }, losses };
}

/** Trains the task (unless given a trained model's bytes) and collects the full gradients of its examples and queries. */
export async function prepare(task: Task, model?: Uint8Array): Promise<Prepared> {
  const bytes = model ?? (await trainedModel(task, await trained(task)));
  return asFile(bytes, async (path) => {
    const chosen = chosenOf(task);
    const { layers, gradients: perExample } = differentiate(await readModel(path), path, chosen);
    const d = layers.reduce((sum, layer) => sum + layer.d, 0);
    const compiled = await compileGradient(path, { ...chosen, r: { total: d }, compressor: "uniform", seed: 0 });
    const { gradients, losses } = await collect(compiled, [task.train, task.queries]);
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
