/** The demonstration: the MNIST index, built and published to local R2, and the Worker that serves it. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { openLocalBucket } from "./bucket.ts";
import { type Config, readConfig } from "./config.ts";
import { buildToIndex, publishStep } from "./pipeline.ts";
import type { Progress } from "./progress.ts";
import { ALONE, type Run } from "./run.ts";
import { holdingRun } from "./step.ts";

const CONFIG = "fixtures/mnist-cnn/influence.yaml";
const FIRST_PORT = 8787;

/** Builds and publishes what is not there yet. Returns the configuration and the index's folder. */
export async function prepareDemonstration(progress: Progress): Promise<{ config: Config; index: string }> {
  const config = readConfig(CONFIG);
  const run: Run = { ...ALONE, config, folder: resolve("runs", config.name), replace: true, progress };
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
  return { config, index };
}

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

/** Starts `wrangler dev` (workerd with local R2) and waits until an index answers. `persistTo`: where local R2 keeps its state. */
export async function startWorker(persistTo?: string): Promise<{ address: string; process: ChildProcess }> {
  const port = await choosePort();
  const wrangler = join("node_modules", "wrangler", "bin", "wrangler.js");
  const options = [
    "--ip",
    "127.0.0.1",
    "--port",
    String(port),
    "--log-level",
    "error",
    "--show-interactive-dev-session=false",
  ];
  if (persistTo !== undefined) options.push("--persist-to", persistTo);
  const worker = spawn(process.execPath, [wrangler, "dev", ...options], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, WRANGLER_SEND_METRICS: "false" },
  });
  const address = `http://127.0.0.1:${port}`;
  const deadline = performance.now() + 60_000;
  for (;;) {
    const ready = await fetch(`${address}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) return { address, process: worker };
    if (worker.exitCode !== null)
      throw new Error(`the Worker ended with status ${worker.exitCode}; see its messages above`);
    if (performance.now() > deadline) {
      worker.kill();
      throw new Error(`the Worker did not become ready at ${address} within 60 s; see its messages above`);
    }
    await new Promise((wake) => setTimeout(wake, 100));
  }
}
