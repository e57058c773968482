/** The same graphs on onnxruntime's WebGPU provider, where a Vulkan driver is to be had (Debian's chromium brings a software one). */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { compileCalibrated } from "./calibrated.ts";
import { feedsOf, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (existsSync(SWIFTSHADER)) process.env.VK_DRIVER_FILES ??= SWIFTSHADER;

test.runIf(process.env.VK_DRIVER_FILES).each([
  ["cnn", "cross-entropy", "uniform"],
  ["gpt2", "next-token", "uniform"],
  ["cnn", "cross-entropy", "eigenbasis"],
  ["gpt2", "next-token", "eigenbasis"],
] as const)("%s on WebGPU equals the CPU's: %s, %s", async (name, loss, compressor) => {
  const file = (end: string) => fileURLToPath(new URL(`../../fixtures/zoo/${name}.${end}`, import.meta.url));
  const { arrays } = readSafetensors(file("safetensors"));
  const options = { loss, r: { perLayer: 32 }, compressor, seed: 1 } as const;
  const { graph, ...compiled } = await compileCalibrated(file("onnx"), options, (ports) => feedsOf(ports, arrays));
  const feeds = feedsOf({ graph, ...compiled }, arrays);
  const cpu = await (await runner(graph))(feeds);
  const gpu = await (await runner(graph, { executionProviders: ["webgpu"] }))(feeds);
  expect(relativeError(gpu.gradient, cpu.gradient)).toBeLessThan(1e-3);
  expect(relativeError(gpu.loss, cpu.loss)).toBeLessThan(1e-3);
});
