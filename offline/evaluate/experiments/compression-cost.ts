/**
 * What compressing the full gradients of one layer takes: median seconds, and peak memory beside the gradients themselves. Each
 * compressor has a process of its own, because the peak of a process never falls: run with one argument, the question as JSON, this
 * file answers it on standard output.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import * as z from "zod";
import type { Layer } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { peakMegabytes } from "../../command/progress.ts";
import { compressorOf } from "../compress/all.ts";
import type { Setting } from "../compress/compressor.ts";
import { fillNormal } from "../compress/gaussian.ts";
import { everyNth } from "../gradients.ts";
import { product32 } from "../product.ts";
import { median } from "../statistics.ts";
import { CALIBRATION } from "../tasks/prepare.ts";

const questionSchema = z.object({
  compressor: z.string(),
  /** Gradients. */
  n: z.number(),
  inputs: z.number(),
  r: z.number(),
  repeats: z.number(),
});
const costSchema = z.object({ seconds: z.number(), bytes: z.number() });

/** Outputs of the layer that is compressed. */
const OUTPUTS = 64;
/** Random entries; the gradients repeat them. */
const DRAWN = (1 << 20) + 7;

/** Gradients [n, d] of a layer of 64 outputs, weight and bias: d = 64·(inputs + 1). */
export function syntheticLayer(n: number, inputs: number): { layer: Layer; values: Float32Array } {
  const d = OUTPUTS * (inputs + 1);
  const parameters = [
    { name: "fc.weight", shape: [OUTPUTS, inputs] },
    { name: "fc.bias", shape: [OUTPUTS] },
  ];
  const block = new Float32Array(Math.min(DRAWN, n * d));
  fillNormal(block, random(1, "cost"), 1);
  const values = new Float32Array(n * d);
  for (let at = 0; at < values.length; at += block.length) {
    values.set(block.subarray(0, Math.min(block.length, values.length - at)), at);
  }
  return { layer: { name: "fc", d, parameters }, values };
}

export function settingOf(values: Float32Array, layer: Layer, n: number, r: number, seed: number): Setting {
  const calibrationRows = Math.min(CALIBRATION, n);
  const width = layer.parameters[0]?.shape[1] ?? 1;
  return {
    layer,
    r,
    seed,
    calibration: everyNth(values, layer.d, n, calibrationRows),
    calibrationRows,
    factored: (position) => 1 / (1 + (position % width)),
  };
}

/** Asks a process of its own. */
export async function compressionCost(question: z.infer<typeof questionSchema>) {
  const { stdout } = await promisify(execFile)(process.execPath, [import.meta.filename, JSON.stringify(question)]);
  return costSchema.parse(JSON.parse(stdout));
}

async function measure(question: z.infer<typeof questionSchema>): Promise<z.infer<typeof costSchema>> {
  const { compressor, n, inputs, r, repeats } = question;
  const { layer, values } = syntheticLayer(n, inputs);
  const setting = settingOf(values, layer, n, r, 0);
  // What the runtime takes for itself is no compressor's.
  await product32(Float32Array.of(1), Float32Array.of(1), [1, 1, 1]);
  const before = peakMegabytes();
  let bytes = 0;
  const seconds: number[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const started = performance.now();
    const made = await compressorOf(compressor).projection({ ...setting, seed: repeat });
    await made.apply(values, n);
    seconds.push((performance.now() - started) / 1000);
    // Later rounds also hold what the first left behind and the collector has not yet seen.
    if (repeat === 0) bytes = (peakMegabytes() - before) * 1e6;
  }
  return { seconds: median(seconds), bytes };
}

if (process.argv[1] === import.meta.filename) {
  console.log(JSON.stringify(await measure(questionSchema.parse(JSON.parse(process.argv[2] ?? "null")))));
}
