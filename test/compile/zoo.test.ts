/**
 * Every model of fixtures/zoo: loss and kept coordinates of every parameter against PyTorch's per-example gradients in float64.
 * Adding a case is adding a pair of files.
 */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import * as z from "zod";
import { compileGradient } from "../../offline/compile/compile.ts";
import { readModel } from "../../offline/onnx/model.ts";
import { sizeOf } from "../../src/core/mask.ts";
import { feedsOf, norm, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const folder = fileURLToPath(new URL("../../fixtures/zoo/", import.meta.url));
const files = readdirSync(folder);
const names = files.flatMap((file) =>
  file.endsWith(".onnx") && files.includes(file.replace(".onnx", ".safetensors")) ? [file.slice(0, -5)] : [],
);

const lossKind = z.enum(["cross-entropy", "next-token", "binary-cross-entropy", "squared-error", "margin", "output"]);
const aliases = z.record(z.string(), z.object({ parameter: z.string(), transposed: z.boolean() }));

/** A few coordinates of each layer, computed one by one, and all of them, where whole gradients are cheaper. */
test.each(names.flatMap((name) => [24, 100_000].map((perLayer) => [name, perLayer] as const)))(
  "%s, %i per layer",
  async (name, perLayer) => {
    const { arrays, metadata } = readSafetensors(`${folder}${name}.safetensors`);
    const alias = aliases.parse(JSON.parse(metadata.initializers ?? "{}"));
    const trained = z.array(z.string()).parse(JSON.parse(metadata.trained ?? "[]"));
    const model = await readModel(`${folder}${name}.onnx`);
    const holders = new Map(
      trained.map((parameter) => [parameter, model.initializers.has(parameter) ? [parameter] : []]),
    );
    for (const [initializer, { parameter }] of Object.entries(alias)) holders.get(parameter)?.push(initializer);
    const compiled = await compileGradient(`${folder}${name}.onnx`, {
      loss: lossKind.parse(metadata.loss),
      output: metadata.output ?? "logits",
      layers: [...holders.values()].flat(),
      r: { perLayer },
      compressor: "uniform",
      seed: name,
    });
    const run = await runner(compiled.graph);
    const { loss, gradient } = await run(feedsOf(compiled, arrays));
    expect(relativeError(loss, arrays.get("loss")?.data ?? []), "loss").toBeLessThan(1e-5);

    const places = new Map(
      compiled.layers.flatMap((layer, index) => {
        const block = compiled.mask[index];
        let start = 0;
        return layer.parameters.map((parameter) => {
          const from = start;
          start += sizeOf(parameter);
          const columns = new Map<number, number>();
          block?.kept.forEach((kept, rank) => {
            if (kept >= from && kept < start) columns.set(kept - from, block.offset + rank);
          });
          return [parameter.name, { shape: parameter.shape, columns }] as const;
        });
      }),
    );
    const every = [...arrays].flatMap(([key, { data }]) => (/^grad\.(?!.*\.index$)/.test(key) ? [...data] : []));
    const typical = Math.sqrt(every.reduce((sum, entry) => sum + entry ** 2, 0) / every.length);
    let compared = 0;
    for (const [parameter, names] of holders) {
      const grad = arrays.get(`grad.${parameter}`);
      if (!grad) throw new Error(`fixture ${name}: expected grad.${parameter}, got none`);
      const subset = arrays.get(`grad.${parameter}.index`)?.data;
      const width = grad.data.length / loss.length;
      const got: number[] = [];
      const want: number[] = [];
      for (let at = 0; at < width; at++) {
        const position = subset ? (subset[at] ?? 0) : at;
        // Several initializers that hold one parameter: their gradients add up to its own.
        const columns = names.map((held) => {
          const { shape = [], columns } = places.get(held) ?? {};
          const [rows = 1, width = 1] = shape;
          return columns?.get(
            alias[held]?.transposed ? (position % rows) * width + Math.floor(position / rows) : position,
          );
        });
        if (!columns.every((column) => column !== undefined)) continue;
        for (let row = 0; row < loss.length; row++) {
          got.push(
            columns.reduce((sum, column) => sum + (gradient[row * compiled.dimension + column] ?? Number.NaN), 0),
          );
          want.push(grad.data[row * width + at] ?? Number.NaN);
        }
      }
      compared += got.length;
      // Where a gradient is zero by symmetry (a bias before a normalisation), against what is typical in the model.
      const scale = Math.max(norm(want), 1e-2 * typical * Math.sqrt(want.length));
      expect(norm(got.map((entry, index) => entry - (want[index] ?? 0))) / (scale || 1), parameter).toBeLessThan(1e-4);
      if (perLayer === 100_000) expect(got.length, parameter).toBe(grad.data.length);
    }
    expect(compared).toBeGreaterThan(0);
  },
);
