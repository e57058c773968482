/** Runs gradient.onnx over batches side by side: on the CPU one thread and one session a lane, elsewhere one lane. */
import { once } from "node:events";
import { statSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { Worker } from "node:worker_threads";
import { type InferenceSession, Tensor } from "onnxruntime-node";
import { type Device, openGradientSession } from "./session.ts";

/** Tensors as threads pass them on. */
export type Feeds = Record<string, { type: Tensor.Type; data: Tensor.DataType; dims: readonly number[] }>;

export const tensorsOf = (feeds: Feeds): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new Tensor(type, data, dims)]));

/** What collecting reads of a batch: [rows, R], [rows] and, of the output that says the prediction, [rows, classes]; float32. */
export interface Outputs {
  gradient: Float32Array;
  loss: Float32Array;
  logits: Float32Array | null;
}

export function outputsOf(outputs: InferenceSession.OnnxValueMapType, logits: string | null): Outputs {
  const floats = (name: string): Float32Array => {
    const data = outputs[name]?.data;
    if (!(data instanceof Float32Array)) throw new Error(`gradient.onnx: expected a float32 output named ${name}`);
    return data;
  };
  return { gradient: floats("gradient"), loss: floats("loss"), logits: logits === null ? null : floats(logits) };
}

export interface Runner {
  /** Lanes run side by side; one lane runs one batch after another. */
  lanes: number;
  run(lane: number, feeds: Record<string, Tensor>): Promise<Outputs>;
  release(): Promise<void>;
}

/** The part of the machine's memory that copies of the weights may take: each lane has its own. */
const WEIGHTS_SHARE = 0.25;

/** Lanes on the CPU: `threads` (default: one a core), fewer where the weights are large. `weights`: bytes. */
export function lanesFor(weights: number, threads = availableParallelism()): number {
  return Math.max(1, Math.min(threads, Math.floor((WEIGHTS_SHARE * totalmem()) / Math.max(weights, 1))));
}

/** Bytes of a graph and of the files that its weights lie in. */
export const weightsOf = (graph: string, externalData: readonly string[]): number =>
  [graph, ...externalData].reduce((sum, file) => sum + statSync(file).size, 0);

/** `logits`: the output whose argmax is the prediction, null for none. Throws what openGradientSession throws. */
export async function openRunner(graph: string, logits: string | null, device: Device, lanes: number): Promise<Runner> {
  if (device !== "cpu" || lanes === 1) {
    const session = await openGradientSession(graph, device);
    return {
      lanes: 1,
      run: async (_, feeds) => outputsOf(await session.run(feeds), logits),
      release: () => session.release(),
    };
  }
  const threads = Array.from(
    { length: lanes },
    () =>
      new Worker(new URL("./gradient-thread.ts", import.meta.url), {
        workerData: { graph, logits },
        // Its arrays lie outside the heap.
        resourceLimits: { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 128 },
      }),
  );
  await Promise.all(threads.map((thread) => once(thread, "message")));
  return {
    lanes,
    run: async (lane, feeds) => {
      const thread = threads[lane]!;
      const sent: Feeds = Object.fromEntries(
        Object.entries(feeds).map(([name, { type, data, dims }]) => [name, { type, data, dims }]),
      );
      const answered = once(thread, "message");
      thread.postMessage(sent);
      const [answer]: { outputs?: Outputs; error?: string }[] = await answered;
      if (!answer?.outputs) throw new Error(answer?.error ?? "gradient.onnx: its thread ended");
      return answer.outputs;
    },
    release: async () => {
      await Promise.all(threads.map((thread) => thread.terminate()));
    },
  };
}
