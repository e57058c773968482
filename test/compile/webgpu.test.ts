/** The same graphs on onnxruntime's WebGPU provider, where a Vulkan driver is to be had (Debian's chromium brings a software one). */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { compileGradient } from "../../offline/compile/compile.ts";
import { feedsOf, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (existsSync(SWIFTSHADER)) process.env.VK_DRIVER_FILES ??= SWIFTSHADER;

test.runIf(process.env.VK_DRIVER_FILES).each([
  ["cnn", "cross-entropy"],
  ["gpt2", "next-token"],
] as const)("%s on WebGPU equals the CPU's", async (name, loss) => {
  const file = (end: string) => fileURLToPath(new URL(`../../fixtures/zoo/${name}.${end}`, import.meta.url));
  const { arrays } = readSafetensors(file("safetensors"));
  const { graph, ...compiled } = await compileGradient(file("onnx"), {
    loss,
    r: { perLayer: 32 },
    compressor: "uniform",
    seed: 1,
  });
  const feeds = feedsOf({ graph, ...compiled }, arrays);
  const cpu = await (await runner(graph))(feeds);
  const gpu = await (await runner(graph, { executionProviders: ["webgpu"] }))(feeds);
  expect(relativeError(gpu.gradient, cpu.gradient)).toBeLessThan(1e-3);
  expect(relativeError(gpu.loss, cpu.loss)).toBeLessThan(1e-3);
});
