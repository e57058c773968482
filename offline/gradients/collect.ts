/** Collect: run gradient.onnx over a dataset and write shards of compressed gradients. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { StepProgress } from "../command/progress.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { lanesFor, type Outputs, openRunner, weightsOf } from "./runner.ts";
import type { Device } from "./session.ts";
import { emptied, emptyShard, readShard, type ShardRows, shardName, writeShard } from "./shard.ts";

/** Which of the shards a worker makes: those whose number modulo `of` is `index`. */
export interface Worker {
  index: number;
  of: number;
}

export interface CollectPlan {
  /** Name of the split: the shards are `<split>-00000.shard`, …. */
  split: string;
  /** Path of gradient.onnx, and of the files that its weights lie in. */
  graph: string;
  externalData: readonly string[];
  dimension: number;
  /** The model's own output whose argmax is the prediction, null for none. */
  logits: string | null;
  /** Examples in a batch, and in a shard. */
  batch: number;
  shard: number;
  device: Device;
  /** Batches under way at once on the CPU, each on one thread; default: one a core. */
  threads?: number | undefined;
  /** What to do with an example whose gradient or loss is not finite. */
  onNan: "fail" | "skip";
  worker: Worker;
  /** Shards of the splits before this one: workers take turns over all of them. */
  shardsBefore: number;
}

type Cut = Pick<CollectPlan, "shard">;

/** Number of shards of a dataset of n examples. */
export function shardCount(n: number, cut: Cut): number {
  return Math.ceil(n / cut.shard);
}

/** The shards of a split that are not there yet. */
export function missingShards(folder: string, split: string, n: number, cut: Cut): string[] {
  const names = Array.from({ length: shardCount(n, cut) }, (_, index) => shardName(split, index));
  return names.filter((name) => !existsSync(join(folder, name)));
}

/** The shards of a split, in order, each read and checked; one is valid until the next is asked for. */
export function* readShards(folder: string, split: string, key: string, n: number, cut: Cut): Generator<ShardRows> {
  let scratch: ArrayBuffer | undefined;
  for (let index = 0; index < shardCount(n, cut); index++) {
    const shard = readShard(join(folder, shardName(split, index)), key, scratch);
    if (shard.gradients.buffer instanceof ArrayBuffer) scratch ??= shard.gradients.buffer;
    yield shard;
  }
}

/**
 * Makes the worker's shards of a split that are not there yet, each filled by `fill` and then written whole. What is there
 * is read and checked.
 */
export async function makeShards(
  folder: string,
  key: string,
  n: number,
  plan: Pick<CollectPlan, "split" | "dimension" | "worker" | "shardsBefore"> & Cut,
  progress: StepProgress,
  fill: (shard: ShardRows) => Promise<void>,
): Promise<void> {
  const { worker, shardsBefore } = plan;
  // One for all shards: memory that is let go is not given back at once.
  let room: ShardRows | undefined;
  let scratch: ArrayBuffer | undefined;
  for (let index = 0; index < shardCount(n, plan); index++) {
    if ((shardsBefore + index) % worker.of !== worker.index) continue;
    const path = join(folder, shardName(plan.split, index));
    const first = index * plan.shard;
    const rows = Math.min(plan.shard, n - first);
    if (existsSync(path)) {
      const { gradients } = readShard(path, key, scratch);
      if (gradients.buffer instanceof ArrayBuffer) scratch ??= gradients.buffer;
      progress.advance(rows);
      continue;
    }
    room ??= emptyShard(first, rows, plan.dimension);
    const shard = emptied(room, first, rows);
    await fill(shard);
    writeShard(path, shard, key);
  }
}

/**
 * Collects the compressed gradients of a dataset into `folder`. Batches are cut within shards and in a fixed order, so that
 * the bytes do not depend on interruptions or on the number of workers.
 * Returns the ids of the examples left out because they were not finite (`onNan: "skip"`); throws an Error naming the first
 * one otherwise.
 */
export async function collect(
  folder: string,
  key: string,
  dataset: Dataset,
  plan: CollectPlan,
  progress: StepProgress,
): Promise<string[]> {
  // One queue feeds a GPU; on the CPU whole batches side by side gain more than threads inside small operators.
  const most = lanesFor(weightsOf(plan.graph, plan.externalData), plan.threads);
  const lanes = Math.min(most, Math.ceil(Math.min(dataset.n, plan.shard) / plan.batch));
  const runner = await openRunner(plan.graph, plan.logits, plan.device, lanes);
  const skipped: string[] = [];
  try {
    await makeShards(folder, key, dataset.n, plan, progress, async (shard) => {
      const order = await dataset.order(Array.from({ length: shard.rows }, (_, row) => shard.first + row));
      let next = 0;
      const work = async (lane: number) => {
        while (next < order.length) {
          const batch = order.slice(next, next + plan.batch);
          next += batch.length;
          placeBatch(shard, batch, await runner.run(lane, await dataset.feeds(batch)));
          progress.advance(batch.length);
        }
      };
      const ended = await Promise.allSettled(Array.from({ length: runner.lanes }, (_, lane) => work(lane)));
      for (const end of ended) if (end.status === "rejected") throw end.reason;
      skipped.push(...(await leaveOutNonFinite(shard, dataset, plan.onNan)));
    });
  } finally {
    await runner.release();
  }
  return skipped;
}

/** What to do about an example that is not finite. */
export const NOT_FINITE_ADVICE = "check its values and label, or leave such examples out with --on-nan skip";

/** 0 · x is NaN for an infinity or a NaN, and the sum then is too. */
function allFinite(values: Float32Array, from: number, to: number): boolean {
  let sum = 0;
  for (let i = from; i < to; i++) sum += 0 * values[i]!;
  return sum === 0;
}

/**
 * Rows whose gradient or loss is not finite: the first is refused by name, or all are zeroed and marked as left out.
 * Returns the ids left out.
 */
export async function leaveOutNonFinite(
  shard: ShardRows,
  dataset: Pick<Dataset, "ids">,
  onNan: "fail" | "skip",
  lossKnown = true,
): Promise<string[]> {
  const { dimension } = shard;
  const left: string[] = [];
  for (let row = 0; row < shard.rows; row++) {
    const finiteGradient = allFinite(shard.gradients, row * dimension, (row + 1) * dimension);
    if (finiteGradient && (!lossKnown || Number.isFinite(shard.loss[row]))) continue;
    const [id = ""] = await dataset.ids([shard.first + row]);
    if (onNan === "fail") {
      const what = finiteGradient ? "loss" : "gradient";
      throw new Error(`example ${id}: its ${what} is not finite; ${NOT_FINITE_ADVICE}`);
    }
    shard.gradients.fill(0, row * dimension, (row + 1) * dimension);
    shard.loss[row] = Number.NaN;
    shard.valid[row] = 0;
    left.push(id);
  }
  return left;
}

/** Index of the largest of each row's values, the first among equals: [rows, width] → [rows]. */
function argmaxOfRows(values: Float32Array, rows: number): Int32Array {
  const width = values.length / rows;
  return Int32Array.from({ length: rows }, (_, row) => {
    let best = 0;
    for (let column = 1; column < width; column++) {
      if ((values[row * width + column] ?? 0) > (values[row * width + best] ?? 0)) best = column;
    }
    return best;
  });
}

/** Puts a batch's gradients, losses and predictions where their rows lie in the shard. */
function placeBatch(shard: ShardRows, batch: readonly number[], { gradient, loss, logits }: Outputs): void {
  const width = shard.dimension;
  const prediction = logits === null ? null : argmaxOfRows(logits, batch.length);
  batch.forEach((row, at) => {
    const place = row - shard.first;
    shard.gradients.set(gradient.subarray(at * width, (at + 1) * width), place * width);
    shard.loss[place] = loss[at]!;
    if (prediction) shard.prediction[place] = prediction[at]!;
  });
}
