/** Collect: run gradient.onnx over a dataset and write shards of compressed gradients. */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { InferenceSession, type Tensor } from "onnxruntime-node";
import type { Dataset } from "./dataset/dataset.ts";
import type { StepProgress } from "./progress.ts";
import { readShard, type ShardRows, shardName, writeShard } from "./shard.ts";

export interface CollectPlan {
  /** Name of the split: the shards are `<split>-00000.shard`, …. */
  split: string;
  /** gradient.onnx: bytes or path. */
  graph: Uint8Array | string;
  dimension: number;
  /** The model's own output whose argmax is the prediction, null for none. */
  logits: string | null;
  /** Examples in a batch, and in a shard. */
  batch: number;
  shard: number;
  /** Batches under way at once, each on one thread: small graphs gain more from whole batches side by side than from threads inside an operator. */
  threads?: number;
}

/** A session for a gradient graph; one thread an operator, so that results do not depend on the number of threads. */
export async function openGradientSession(graph: Uint8Array | string): Promise<InferenceSession> {
  const options: InferenceSession.SessionOptions = {
    executionProviders: ["cpu"],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    executionMode: "sequential",
    logSeverityLevel: 3,
  };
  return typeof graph === "string" ? InferenceSession.create(graph, options) : InferenceSession.create(graph, options);
}

function float32Of(tensor: Tensor | undefined, name: string): Float32Array {
  if (!tensor || !(tensor.data instanceof Float32Array))
    throw new Error(`gradient.onnx: expected a float32 output named ${name}`);
  return tensor.data;
}

/** Index of the largest of each row's values, the first among equals: [rows, width] → [rows]. */
export function argmaxOfRows(values: Float32Array, rows: number): Int32Array {
  const width = values.length / rows;
  return Int32Array.from({ length: rows }, (_, row) => {
    let best = 0;
    for (let column = 1; column < width; column++) {
      if ((values[row * width + column] ?? 0) > (values[row * width + best] ?? 0)) best = column;
    }
    return best;
  });
}

/** The first row that holds a NaN or an infinity, or −1. */
export function firstNonFiniteRow(values: Float32Array, width: number): number {
  for (let index = 0; index < values.length; index++) {
    if (!Number.isFinite(values[index])) return Math.floor(index / width);
  }
  return -1;
}

/** Puts a batch's gradients, losses and predictions where their rows lie in the shard. Throws an Error naming an example that is not finite. */
function placeBatch(
  shard: ShardRows,
  batch: readonly number[],
  outputs: InferenceSession.OnnxValueMapType,
  logits: string | null,
  dataset: Dataset,
): void {
  const width = shard.dimension;
  const gradient = float32Of(outputs.gradient, "gradient");
  const loss = float32Of(outputs.loss, "loss");
  for (const [values, each, what] of [
    [gradient, width, "gradient"],
    [loss, 1, "loss"],
  ] as const) {
    const wrong = firstNonFiniteRow(values, each);
    if (wrong >= 0) {
      throw new Error(
        `example ${dataset.id(batch[wrong]!)}: its ${what} is not finite; check its values and label, or leave it out`,
      );
    }
  }
  const prediction = logits === null ? null : argmaxOfRows(float32Of(outputs[logits], logits), batch.length);
  batch.forEach((row, at) => {
    const place = row - shard.first;
    shard.gradients.set(gradient.subarray(at * width, (at + 1) * width), place * width);
    shard.loss[place] = loss[at]!;
    if (prediction) shard.prediction[place] = prediction[at]!;
  });
}

/** Number of shards of a dataset of n examples. */
export function shardCount(n: number, plan: Pick<CollectPlan, "batch" | "shard">): number {
  return Math.ceil(n / rowsPerShard(plan));
}

function rowsPerShard(plan: Pick<CollectPlan, "batch" | "shard">): number {
  return Math.ceil(plan.shard / plan.batch) * plan.batch;
}

/**
 * Collects the compressed gradients of a dataset into `folder`. Shards that are there and whole are kept. Batches start at
 * multiples of the batch size in every run, so that an interrupted collection gives the same bytes.
 * Throws an Error naming the example when a loss or gradient is not finite.
 */
export async function collect(
  folder: string,
  key: string,
  dataset: Dataset,
  plan: CollectPlan,
  progress: StepProgress,
): Promise<void> {
  const session = await openGradientSession(plan.graph);
  const width = plan.dimension;
  const threads = plan.threads ?? availableParallelism();
  try {
    for (let index = 0; index < shardCount(dataset.n, plan); index++) {
      const path = join(folder, shardName(plan.split, index));
      const first = index * rowsPerShard(plan);
      const rows = Math.min(rowsPerShard(plan), dataset.n - first);
      if (existsSync(path)) {
        readShard(path, key);
        progress.advance(rows);
        continue;
      }
      const shard: ShardRows = {
        first,
        rows,
        dimension: width,
        gradients: new Float32Array(rows * width),
        loss: new Float32Array(rows),
        prediction: new Int32Array(rows).fill(-1),
      };
      const order = await dataset.order(Array.from({ length: rows }, (_, row) => first + row));
      let next = 0;
      const work = async () => {
        while (next < rows) {
          const batch = order.slice(next, next + plan.batch);
          next += batch.length;
          const outputs = await session.run(await dataset.feeds(batch));
          placeBatch(shard, batch, outputs, plan.logits, dataset);
          for (const output of Object.values(outputs)) output.dispose();
          progress.advance(batch.length);
        }
      };
      const ended = await Promise.allSettled(Array.from({ length: threads }, work));
      for (const end of ended) if (end.status === "rejected") throw end.reason;
      writeShard(path, shard, key);
    }
  } finally {
    await session.release();
  }
}

/** The shards of a split, in order, each read and checked. */
export function* readShards(
  folder: string,
  split: string,
  key: string,
  n: number,
  plan: Pick<CollectPlan, "batch" | "shard">,
): Generator<ShardRows> {
  for (let index = 0; index < shardCount(n, plan); index++) yield readShard(join(folder, shardName(split, index)), key);
}
