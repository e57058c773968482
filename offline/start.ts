/** `npm start`: the MNIST demonstration from nothing to a page, or in seconds when the index is already built. */
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { FILES } from "../src/core/manifest.ts";
import { openLocalBucket } from "./bucket.ts";
import { readConfig } from "./config.ts";
import { buildToIndex, publishStep } from "./pipeline.ts";
import { progressTo } from "./progress.ts";
import { readMetadata } from "./query.ts";
import { ALONE, type Run } from "./run.ts";
import { holdingRun } from "./step.ts";

const CONFIG = "fixtures/mnist-cnn/influence.yaml";
const FIRST_PORT = 8787;

function isFree(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const probe = createServer()
      .once("error", () => settle(false))
      .once("listening", () => probe.close(() => settle(true)))
      .listen(port, "127.0.0.1");
  });
}

async function choosePort(): Promise<number> {
  if (process.env.PORT) return Number(process.env.PORT);
  for (let port = FIRST_PORT; port < FIRST_PORT + 100; port++) if (await isFree(port)) return port;
  throw new Error(`no free port from ${FIRST_PORT} to ${FIRST_PORT + 99}; set PORT`);
}

/** Starts `wrangler dev` (workerd with local R2) and waits until the index answers. */
async function serve(port: number): Promise<void> {
  const worker = spawn(
    process.execPath,
    [
      join("node_modules", "wrangler", "bin", "wrangler.js"),
      "dev",
      "--ip",
      "127.0.0.1",
      "--port",
      String(port),
      "--log-level",
      "error",
      "--show-interactive-dev-session=false",
    ],
    { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, WRANGLER_SEND_METRICS: "false" } },
  );
  const stop = () => worker.kill("SIGTERM");
  process.once("SIGINT", stop).once("SIGTERM", stop);
  worker.once("exit", (code) => process.exit(code ?? 0));
  const deadline = performance.now() + 60_000;
  for (;;) {
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) return;
    if (performance.now() > deadline) {
      stop();
      throw new Error(`the Worker did not become ready on port ${port} within 60 s; see its messages above`);
    }
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

async function main(): Promise<void> {
  const started = performance.now();
  const config = readConfig(CONFIG);
  const run: Run = {
    ...ALONE,
    config,
    folder: resolve("runs", config.name),
    replace: true,
    progress: progressTo(process.stderr.isTTY ? "terminal" : "lines"),
  };
  const index = await holdingRun(run.folder, "build", false, async () => {
    const folder = await buildToIndex(run);
    const bucket = await openLocalBucket("wrangler.toml");
    try {
      await publishStep(run, folder, bucket);
    } finally {
      await bucket.close();
    }
    return folder;
  });
  const { ids, columns } = readMetadata(index, FILES.queryMetadata);
  const wrong = ids.find((_, row) => columns.prediction?.[row] !== columns.label?.[row]) ?? ids[0];
  const port = await choosePort();
  await serve(port);
  const address = `http://127.0.0.1:${port}`;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`
Ready in ${seconds} s. The page: ${address}/
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
