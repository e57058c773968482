/** Training runs: epochs over shuffled rows, from a seed. */
import type { Tensor } from "onnxruntime-node";
import { random } from "../../src/core/random.ts";
import { rateAt, type Schedule } from "./optimiser.ts";
import type { State, Trainer } from "./trainer.ts";

/** What a model is trained on: feeds (its inputs and `target`) of any rows. */
export interface Examples {
  n: number;
  feeds(rows: readonly number[]): Record<string, Tensor> | Promise<Record<string, Tensor>>;
}

export interface Recipe {
  epochs: number;
  batch: number;
  /** The peak of the schedule. */
  learningRate: number;
  schedule: Schedule;
  /** Share of the steps over which the learning rate rises. */
  warmup: number;
  seed: number | string;
}

/** `list` in random order (Fisher and Yates). */
export function shuffled<T>(list: readonly T[], below: (bound: number) => number): T[] {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last--) {
    const other = below(last + 1);
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}

/**
 * Trains on the given rows (all by default), each once an epoch in an order of its own; the last batch of an epoch may be smaller.
 * Returns the state and each epoch's mean loss. Throws an Error when the loss is no longer finite.
 */
export async function train(
  trainer: Trainer,
  examples: Examples,
  recipe: Recipe,
  rows: readonly number[] = Array.from({ length: examples.n }, (_, row) => row),
): Promise<{ state: State; losses: number[] }> {
  const { epochs, batch, learningRate, schedule, warmup, seed } = recipe;
  const state = trainer.start();
  const { below } = random(seed, "training order");
  const perEpoch = Math.ceil(rows.length / batch);
  const losses: number[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = shuffled(rows, below);
    let sum = 0;
    for (let index = 0; index < perEpoch; index++) {
      const chosen = order.slice(index * batch, (index + 1) * batch);
      const rate = learningRate * rateAt(schedule, epoch * perEpoch + index, epochs * perEpoch, warmup);
      const loss = await trainer.step(state, await examples.feeds(chosen), rate);
      if (!Number.isFinite(loss)) {
        throw new Error(
          `training: expected a finite loss, got ${loss} at step ${state.steps}; use a learning rate below ${learningRate}`,
        );
      }
      sum += loss * chosen.length;
    }
    losses.push(sum / rows.length);
  }
  return { state, losses };
}
