/** Which coordinates are kept, by importance and on a grid, and that they are the whole gradient's coordinates. */
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type CompileOptions, compileGradient, differentiate } from "../../offline/compile/compile.ts";
import { calibrate } from "../../offline/compress/calibrate.ts";
import { weightOf } from "../../offline/compress/importance.ts";
import { smallest } from "../../offline/compress/select.ts";
import { readModel } from "../../offline/onnx/model.ts";
import { feedsOf, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const zoo = (name: string) => fileURLToPath(new URL(`../../fixtures/zoo/${name}`, import.meta.url));

test("the smallest keys are those that sorting finds", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { minLength: 1, maxLength: 200 }), fc.nat(), (keys, seed) => {
      const r = 1 + (seed % keys.length);
      const order = keys.map((_, position) => position).sort((a, b) => (keys[a] ?? 0) - (keys[b] ?? 0) || a - b);
      const kept = smallest(keys.length, r, (position) => keys[position] ?? 0);
      expect([...kept]).toEqual(order.slice(0, r).sort((a, b) => a - b));
    }),
  );
});

test("with one example and one position, an entry's weight is its squared gradient", async () => {
  const options: CompileOptions = { loss: "cross-entropy", r: { perLayer: 100_000 }, compressor: "uniform", seed: 1 };
  const { arrays } = readSafetensors(zoo("mlp.safetensors"));
  const compiled = await compileGradient(zoo("mlp.onnx"), options);
  const feeds = feedsOf(compiled, arrays, [1, 2]);
  const { gradient } = await (await runner(compiled.graph))(feeds);
  const calibration = await calibrate(zoo("mlp.onnx"), options, [feeds]);
  expect(calibration.examples).toBe(1);
  const { gradients } = differentiate(await readModel(zoo("mlp.onnx")), "mlp", options);
  let at = 0;
  for (const layer of compiled.layers) {
    for (const { name, shape } of layer.parameters) {
      const weight = weightOf(name, gradients, calibration);
      const size = shape.reduce((a, b) => a * b, 1);
      const squares = Array.from(gradient.subarray(at, at + size), (entry) => entry * entry);
      expect(
        relativeError(
          Array.from({ length: size }, (_, p) => weight(p)),
          squares,
        ),
        name,
      ).toBeLessThan(1e-5);
      at += size;
    }
  }
});

const cases = ["mlp", "cnn", "resnet9", "gpt2", "bert", "t5", "lstm", "recommender", "einsum", "op-convtranspose-2d"];

test.each(cases.flatMap((name) => (["importance", "grid"] as const).map((kind) => [name, kind] as const)))(
  "%s, %s: kept coordinates are the whole gradient's",
  async (name, compressor) => {
    const { arrays, metadata } = readSafetensors(zoo(`${name}.safetensors`));
    const loss = ["next-token", "cross-entropy", "binary-cross-entropy", "squared-error"] as const;
    const base = {
      loss: loss.find((kind) => kind === metadata.loss) ?? "output",
      output: metadata.output ?? "",
      seed: 7,
    } as const;
    const whole = await compileGradient(zoo(`${name}.onnx`), { ...base, r: { perLayer: 1e6 }, compressor: "uniform" });
    const feeds = feedsOf(whole, arrays);
    const calibration = await calibrate(zoo(`${name}.onnx`), base, [feeds]);
    const options = { ...base, r: { perLayer: 40 }, compressor, calibration };
    const compiled = await compileGradient(zoo(`${name}.onnx`), options);
    const again = await compileGradient(zoo(`${name}.onnx`), options);
    expect(Buffer.compare(again.graph, compiled.graph)).toBe(0);
    const all = await (await runner(whole.graph))(feeds);
    const some = await (await runner(compiled.graph))(feeds);
    const want: number[] = [];
    for (let row = 0; row < all.loss.length; row++) {
      compiled.mask.forEach((block, index) => {
        const start = row * whole.dimension + (whole.mask[index]?.offset ?? 0);
        for (const position of block.kept) want.push(all.gradient[start + position] ?? Number.NaN);
      });
    }
    expect(relativeError(some.gradient, want)).toBeLessThan(1e-4);
  },
);

test("importance keeps what matters: more of the gradient's energy than chance", async () => {
  const base = { loss: "next-token", seed: 3, r: { perLayer: 64 } } as const;
  const { arrays } = readSafetensors(zoo("gpt2.safetensors"));
  const model = zoo("gpt2.onnx");
  const uniform = await compileGradient(model, { ...base, compressor: "uniform" });
  const feeds = feedsOf(uniform, arrays);
  const calibration = await calibrate(model, base, [feeds]);
  const important = await compileGradient(model, { ...base, compressor: "importance", calibration });
  const energy = async (graph: Uint8Array) =>
    (await (await runner(graph))(feeds)).gradient.reduce((sum, entry) => sum + entry * entry, 0);
  expect(await energy(important.graph)).toBeGreaterThan(1.5 * (await energy(uniform.graph)));
});

test("importance needs a calibration of the same model", async () => {
  const base = { loss: "cross-entropy", seed: 3, r: { perLayer: 8 }, compressor: "importance" } as const;
  await expect(compileGradient(zoo("mlp.onnx"), base)).rejects.toThrow("run calibrate first");
  const foreign = { examples: 1, sums: {} };
  await expect(compileGradient(zoo("mlp.onnx"), { ...base, calibration: foreign })).rejects.toThrow(
    "calibrate this model again",
  );
});
