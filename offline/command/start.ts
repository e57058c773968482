/** `npm start`: the demonstration from nothing to a page, or in seconds when the index is already built. */
import { FILES } from "../../src/core/manifest.ts";
import { readMetadata } from "../serve/query.ts";
import { serveDemonstration } from "./demonstration.ts";
import { progressTo } from "./progress.ts";

async function main(): Promise<void> {
  const started = performance.now();
  const output = process.stderr.isTTY ? "terminal" : "lines";
  const { config, index, address, worker } = await serveDemonstration(progressTo(output));
  const { ids, columns } = readMetadata(index, FILES.queryMetadata);
  const wrong = ids.find((_, row) => columns.prediction?.[row] !== columns.label?.[row]) ?? ids[0];
  const stop = () => worker.kill("SIGTERM");
  process.once("SIGINT", stop).once("SIGTERM", stop);
  worker.once("exit", (code) => process.exit(code ?? 0));
  console.log(`
Ready in ${((performance.now() - started) / 1000).toFixed(1)} s. The page: ${address}/
A digit that the model gets wrong, from the command line:

  curl -s ${address}/v1/indexes/${config.name}/influence --json '{"query": "${wrong}", "topK": 3}'

Ctrl-C stops the Worker.`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`npm start: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
