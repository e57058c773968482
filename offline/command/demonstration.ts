/** The demonstration: the MNIST index, built and published to local R2, and the Worker that serves it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { manifestSchema } from "../../src/core/manifest.ts";
import { onBucket } from "../store/open-bucket.ts";
import { readManifest } from "../store/publish.ts";
import { type Config, readConfig } from "./config.ts";
import { buildToIndex, publishStep } from "./pipeline.ts";
import type { Progress } from "./progress.ts";
import { ALONE, type Run } from "./run.ts";
import { holdingRun } from "./step.ts";

const CONFIG = "fixtures/mnist-cnn/influence.yaml";
const FIRST_PORT = 8787;

export interface Demonstration {
  config: Config;
  /** The index's folder. */
  index: string;
  address: string;
  worker: ChildProcess;
}

const publish = (run: Run, index: string) => onBucket({ to: "local" }, (bucket) => publishStep(run, index, bucket));

/** The version that a Worker serves, or null. */
async function servedVersion(address: string, name: string): Promise<string | null> {
  const response = await fetch(`${address}/v1/indexes/${name}`);
  return response.ok ? manifestSchema.pick({ version: true }).parse(await response.json()).version : null;
}

function demonstrationRun(progress: Progress): Run {
  const config = readConfig(CONFIG);
  return { ...ALONE, config, folder: resolve("runs", config.name), replace: true, progress };
}

/** Builds the index where it is not there yet. */
export async function prepareDemonstration(progress: Progress): Promise<{ config: Config; index: string }> {
  const run = demonstrationRun(progress);
  return { config: run.config, index: await holdingRun(run.folder, "build", false, () => buildToIndex(run)) };
}

/** Builds and publishes what is not there yet, and serves it. */
export async function serveDemonstration(progress: Progress): Promise<Demonstration> {
  const run = demonstrationRun(progress);
  const builtBefore = existsSync(join(run.folder, "index"));
  const { config, index } = await prepareDemonstration(progress);
  if (!builtBefore) await publish(run, index);
  // Of an index built before, the Worker itself tells soonest whether it is published.
  let served = await startWorker();
  if ((await servedVersion(served.address, config.name)) !== readManifest(index).version) {
    served.worker.kill();
    await once(served.worker, "exit");
    await publish(run, index);
    served = await startWorker();
  }
  await untilAnswered(`${served.address}/readyz`, served.worker);
  return { config, index, ...served };
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

/** Waits for a 200. Throws an Error when the Worker ends, or after a minute. */
export async function untilAnswered(url: string, worker: ChildProcess): Promise<void> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const answered = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (answered) return;
    if (worker.exitCode !== null) {
      throw new Error(`the Worker ended with status ${worker.exitCode}; see its messages above`);
    }
    if (performance.now() > deadline) {
      worker.kill();
      throw new Error(`${url}: expected an answer within 60 s, got none; see the Worker's messages above`);
    }
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

/** Starts `wrangler dev` (workerd with local R2) and waits until it listens. `persistTo`: where local R2 keeps its state. */
export async function startWorker(persistTo?: string): Promise<{ address: string; worker: ChildProcess }> {
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
    env: { ...process.env, WRANGLER_SEND_METRICS: "false", CLOUDFLARE_CF_FETCH_ENABLED: "false" },
  });
  const address = `http://127.0.0.1:${port}`;
  await untilAnswered(`${address}/healthz`, worker);
  return { address, worker };
}
