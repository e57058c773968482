/** A worker thread that runs gradient.onnx: onnxruntime's run holds the thread that calls it. */
import { parentPort, workerData } from "node:worker_threads";
import { type Feeds, outputsOf, tensorsOf } from "./runner.ts";
import { openGradientSession } from "./session.ts";

const { graph, logits }: { graph: string; logits: string | null } = workerData;
const session = await openGradientSession(graph);

parentPort?.on("message", async (feeds: Feeds) => {
  try {
    const outputs = outputsOf(await session.run(tensorsOf(feeds)), logits);
    const { gradient, loss, logits: scores } = outputs;
    const buffers = [gradient, loss, ...(scores ? [scores] : [])].map(({ buffer }) => buffer);
    parentPort?.postMessage(
      { outputs },
      buffers.filter((buffer) => buffer instanceof ArrayBuffer),
    );
  } catch (error) {
    parentPort?.postMessage({ error: error instanceof Error ? error.message : String(error) });
  }
});
parentPort?.postMessage("ready");
