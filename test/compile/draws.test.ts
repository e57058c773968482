/** Masks drawn without going through the entries follow the same law as those drawn entry by entry. */
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { PerExample } from "../../offline/autodiff/per-example.ts";
import { type CompileOptions, compileGradient, differentiate } from "../../offline/compile/compile.ts";
import { calibrate } from "../../offline/compress/calibrate.ts";
import { gridMask } from "../../offline/compress/grid.ts";
import { importanceMask, weightOf } from "../../offline/compress/importance.ts";
import { firstArrivals, type ProductMeasure } from "../../offline/compress/race.ts";
import { readModel } from "../../offline/onnx/model.ts";
import { sizeOf } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";
import { feedsOf } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const zoo = (name: string) => fileURLToPath(new URL(`../../fixtures/zoo/${name}`, import.meta.url));
const range = (n: number) => Array.from({ length: n }, (_, index) => index);

/** Pearson's statistic less its degrees of freedom, in standard deviations: about normal. */
function excess(counts: readonly number[], expected: readonly number[]): number {
  const square = counts.reduce((sum, count, at) => sum + (count - (expected[at] ?? 0)) ** 2 / (expected[at] ?? 0), 0);
  return (square - (counts.length - 1)) / Math.sqrt(2 * (counts.length - 1));
}

const dense = (x: number[], d: number[]): ProductMeasure => ({
  x,
  d,
  entries: { blocks: 1, each: 1, at: (p, q) => p * d.length + q },
});
const grouped = (x: number[], d: number[]): ProductMeasure => ({
  x,
  d,
  // Two groups of rows, two entries a pair.
  entries: { blocks: 2, each: 2, at: (p, q, which) => 2 * (p * (d.length / 2) + (q % (d.length / 2))) + which },
});
const measures: [string, ProductMeasure][] = [
  ["weights of a wide range", dense([4, 1, 0.5, 0.1], [1, 3, 0.2, 0.7])],
  ["equal weights", dense([1, 1, 1, 1], [1, 1, 1])],
  ["rows of weight zero", dense([0, 2, 1, 0, 0.3], [1, 0, 5, 2, 1, 1])],
  ["groups, and several entries a pair", grouped([2, 0.4, 1, 3], [1, 0.3, 0.6, 0.1])],
];

test.each(measures)("%s: the first two arrive as in two draws in proportion to what is left", (_, measure) => {
  const { x, d, entries } = measure;
  const weights = new Map<number, number>();
  for (const p of range(x.length)) {
    for (const q of range(d.length)) {
      if (Math.floor((p * entries.blocks) / x.length) !== Math.floor((q * entries.blocks) / d.length)) continue;
      const weight = (x[p] ?? 0) * (d[q] ?? 0);
      for (const which of range(entries.each)) if (weight > 0) weights.set(entries.at(p, q, which), weight);
    }
  }
  const total = [...weights.values()].reduce((a, b) => a + b);
  const trials = 40_000;
  const counts = new Map<string, number>();
  const generator = random(5, "trials");
  for (let trial = 0; trial < trials; trial++) {
    const key = firstArrivals(measure, 2, generator)
      .map(({ position }) => position)
      .join();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const pairs = [...weights].flatMap(([i, a]) =>
    [...weights].flatMap(([j, b]) =>
      i === j ? [] : [{ key: `${i},${j}`, expected: (trials * a * b) / total / (total - a) }],
    ),
  );
  expect(pairs.reduce((sum, { key }) => sum + (counts.get(key) ?? 0), 0)).toBe(trials);
  const common = pairs.filter(({ expected }) => expected >= 5);
  const z = excess(
    common.map(({ key }) => counts.get(key) ?? 0),
    common.map(({ expected }) => expected),
  );
  expect(Math.abs(z)).toBeLessThan(3.5);
});

test("arrivals are distinct, in order of time, and as many as asked for or as there are", () => {
  const factors = fc.array(fc.oneof(fc.constant(0), fc.double({ min: 1e-20, max: 1e20, noNaN: true })), {
    minLength: 1,
    maxLength: 30,
  });
  fc.assert(
    fc.property(factors, factors, fc.integer({ min: 1, max: 300 }), fc.nat(), (x, d, r, seed) => {
      const positive = x.filter((a) => a > 0).length * d.filter((b) => b > 0).length;
      const found = firstArrivals(dense(x, d), r, random(seed, "draw"));
      expect(found.length).toBe(Math.min(r, positive));
      expect(new Set(found.map(({ position }) => position)).size).toBe(found.length);
      expect(found.every(({ key }, at) => Number.isFinite(key) && key >= (found[at - 1]?.key ?? 0))).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test("a layer of a billion entries is drawn from without going through them", () => {
  const n = 32_768;
  const generator = random(1, "factors");
  const [x, d] = [0, 1].map(() => Array.from({ length: n }, () => Math.exp(2 * generator.normal())));
  const found = firstArrivals(dense(x ?? [], d ?? []), 1000, random(2, "draw"));
  expect(new Set(found.map(({ position }) => position)).size).toBe(1000);
});

/** Every kind of use: dense, convolutions (grouped, transposed, strided), tables, products over many axes, moved and scaled parameters. */
const models = ["cnn", "mobilenet", "op-convtranspose-2d", "op-conv-depthwise", "gpt2", "bert-lora8", "lstm", "einsum"];
const optionsOf = (name: string): { options: CompileOptions; arrays: ReturnType<typeof readSafetensors>["arrays"] } => {
  const { arrays, metadata } = readSafetensors(zoo(`${name}.safetensors`));
  const losses = ["next-token", "cross-entropy", "binary-cross-entropy", "squared-error"] as const;
  const loss = losses.find((kind) => kind === metadata.loss) ?? "output";
  const output = metadata.output ?? "";
  return { options: { loss, output, r: { perLayer: 1 }, compressor: "uniform", seed: 1 }, arrays };
};
const differentiated = async (name: string) =>
  differentiate(await readModel(zoo(`${name}.onnx`)), name, optionsOf(name).options);

test.each(models)("%s: each entry is found again from its rows", async (name) => {
  const { gradients, layers } = await differentiated(name);
  for (const parameter of layers.flatMap((layer) => layer.parameters)) {
    for (const { rows, sizes, entries } of gradients.get(parameter.name)?.factors ?? []) {
      if (!entries) continue;
      let found = 0;
      for (const position of range(sizeOf(parameter))) {
        const [p, q] = rows(position);
        if (p >= sizes[0] || q >= sizes[1]) continue;
        found++;
        const block = Math.floor((p * entries.blocks) / sizes[0]);
        expect(Math.floor((q * entries.blocks) / sizes[1]), `${parameter.name}: block`).toBe(block);
        expect(
          range(entries.each).map((which) => entries.at(p, q, which)),
          parameter.name,
        ).toContain(position);
      }
      expect((sizes[0] * sizes[1] * entries.each) / entries.blocks, parameter.name).toBe(found);
    }
  }
});

/** The same gradients, of which entries can only be gone through one by one. */
const unknown = (gradients: ReadonlyMap<string, PerExample>) =>
  new Map(
    Array.from(gradients, ([name, gradient]) => [
      name,
      { ...gradient, factors: gradient.factors.map((factors) => ({ ...factors, entries: null })) },
    ]),
  );

test.each(["mlp", "cnn", "mobilenet", "gpt2", "bert-lora8", "t5", "einsum"])(
  "%s: a grid grown row by row is the one that every entry's key gives",
  async (name) => {
    const { gradients, layers } = await differentiated(name);
    for (const r of [1, 7, 60]) {
      const kept = layers.map(({ d }) => Math.min(d, r));
      expect(gridMask(layers, kept, r, gradients)).toEqual(gridMask(layers, kept, r, unknown(gradients)));
    }
  },
);

test("a weight used at every time step: one draw is in proportion to the sum over its uses", async () => {
  const { options, arrays } = optionsOf("lstm");
  const { gradients, layers } = await differentiated("lstm");
  const tied = layers.filter(({ parameters }) =>
    parameters.some(({ name }) => (gradients.get(name)?.factors.length ?? 0) > 1),
  );
  const [layer] = tied;
  if (!layer) throw new Error("expected a parameter used twice");
  const feeds = feedsOf(await compileGradient(zoo("lstm.onnx"), options), arrays);
  const calibration = await calibrate(zoo("lstm.onnx"), options, [feeds]);
  const weights = layer.parameters.flatMap((parameter) =>
    range(sizeOf(parameter)).map(weightOf(parameter.name, gradients, calibration)),
  );
  const total = weights.reduce((a, b) => a + b);
  const trials = 2000;
  for (const known of [gradients, unknown(gradients)]) {
    const counts = new Array<number>(layer.d).fill(0);
    for (let seed = 0; seed < (known === gradients ? trials : trials / 4); seed++) {
      const [block] = importanceMask([layer], [1], seed, known, calibration);
      const [position = 0] = block?.kept ?? [];
      counts[position] = (counts[position] ?? 0) + 1;
    }
    const drawn = counts.reduce((a, b) => a + b);
    // Bins of entries in order of weight, of equal total weight.
    const order = range(layer.d).sort((a, b) => (weights[a] ?? 0) - (weights[b] ?? 0));
    const bins = range(20).map(() => ({ count: 0, expected: 0 }));
    let before = 0;
    for (const position of order) {
      const bin = bins[Math.min(19, Math.floor((20 * before) / total))];
      if (!bin) continue;
      bin.count += counts[position] ?? 0;
      bin.expected += (drawn * (weights[position] ?? 0)) / total;
      before += weights[position] ?? 0;
    }
    const filled = bins.filter(({ expected }) => expected > 0);
    expect(filled.length).toBeGreaterThan(10);
    const z = excess(
      filled.map(({ count }) => count),
      filled.map(({ expected }) => expected),
    );
    expect(Math.abs(z)).toBeLessThan(3.5);
  }
});

test("entries that the calibration never reached are kept last, and then each subset is as likely", async () => {
  const { gradients, layers } = await differentiated("recommender");
  const [layer] = layers.filter(({ parameters }) => parameters.length === 1);
  const [parameter] = layer?.parameters ?? [];
  const [use] = gradients.get(parameter?.name ?? "")?.factors ?? [];
  if (!layer || !parameter || !use) throw new Error("expected a layer of one parameter");
  const [rows, columns] = use.sizes;
  const x = range(rows).map((p) => (p === 1 ? 1 : 0));
  const calibration = {
    examples: 1,
    sums: { [parameter.name]: [{ x, d: range(columns).map(() => 1), count: 1 }] },
  };
  const reached = range(layer.d).filter((position) => use.rows(position)[0] === 1);
  const counts = new Array<number>(layer.d).fill(0);
  const more = 3;
  for (let seed = 0; seed < 2000; seed++) {
    const [block] = importanceMask([layer], [reached.length + more], seed, gradients, calibration);
    const kept = new Set(block?.kept);
    expect(reached.every((position) => kept.has(position))).toBe(true);
    for (const position of kept) counts[position] = (counts[position] ?? 0) + 1;
  }
  const others = range(layer.d).filter((position) => use.rows(position)[0] !== 1);
  const z = excess(
    others.map((position) => counts[position] ?? 0),
    others.map(() => (2000 * more) / others.length),
  );
  expect(Math.abs(z)).toBeLessThan(3.5);
});
