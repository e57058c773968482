import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readShards } from "../../offline/gradients/collect.ts";
import { configFile, influence, smallConfig } from "./demonstration.ts";

/** SwiftShader, a Vulkan driver in software that comes with Debian's chromium: the real WebGPU provider without a GPU. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

const { queries: _, ...config } = { ...smallConfig(8), batch: 8, shard: 8 };

function gradientsOf(run: string): Float32Array {
  const folder = join(run, "collect");
  const key = readFileSync(join(folder, "train-00000.shard")).toString("hex", 24, 56);
  const [shard] = readShards(folder, "train", key, 8, config);
  return shard!.gradients;
}

describe("--device", () => {
  test.runIf(existsSync(SWIFTSHADER))("webgpu gives the CPU's compressed gradients to 1e-3", () => {
    const cpu = configFile(config);
    const gpu = configFile(config);
    expect(influence("collect", cpu.path, "--out", cpu.run).status).toBe(0);
    process.env.VK_DRIVER_FILES = SWIFTSHADER;
    const collected = influence("collect", gpu.path, "--out", gpu.run, "--device", "webgpu");
    expect(collected.status, collected.stderr).toBe(0);
    const expected = gradientsOf(cpu.run);
    const got = gradientsOf(gpu.run);
    const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
    expect(worst / scale).toBeLessThan(1e-3);
  });

  test("--memory chooses the batch, says when even one example is too much, and index goes on without it", () => {
    const { path, run } = configFile({ ...smallConfig(300), shard: 300 });
    const tight = influence("collect", path, "--out", run, "--memory", "1MB");
    expect(tight.status).toBe(1);
    expect(tight.stderr).toMatch(/--memory: \d+ examples side by side take more than 0\.0 GB/);
    expect(influence("collect", path, "--out", run, "--memory", "lots").stderr).toMatch(
      /expected a size such as 4GB or 800MB, got "lots"/,
    );

    const collected = influence("collect", path, "--out", run, "--memory", "2GB", "--replace");
    expect(collected.status, collected.stderr).toBe(0);
    expect(JSON.parse(readFileSync(join(run, "collect", "batch.json"), "utf8")).batch).toBeGreaterThanOrEqual(8);
    expect(influence("index", path, "--out", run).status).toBe(0);
  });

  test("a device that is not there is an error that says how to get it, never another device", () => {
    const { path, run } = configFile(config);
    const refused = influence("collect", path, "--out", run, "--device", "cuda");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(
      /influence: --device cuda: not available here \(.*\); install onnxruntime-node .* CUDA 12/,
    );
    expect(influence("collect", path, "--out", run).status).toBe(0);
    const fitted = influence("fit", path, "--out", run, "--device", "cuda");
    expect(fitted.status).toBe(1);
    expect(fitted.stderr).toMatch(/influence: --device cuda: not available here \(.*\); install onnxruntime-node/);
    expect(existsSync(join(run, "fit"))).toBe(false);
  });
});
