/** The tasks of the experiments, one for each family of models. */
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { ADAMW, SGD } from "../../train/optimiser.ts";
import { adaptedTransformer } from "./adapted.ts";
import { digitExamples, readDigits } from "./digits.ts";
import { readEmails } from "./emails.ts";
import { flipped } from "./flips.ts";
import { convolutional, perceptron, residual } from "./image-models.ts";
import { sourceTask } from "./source-task.ts";
import { SOURCE_NAMES } from "./sources.ts";
import type { Task, TaskOptions } from "./task.ts";
import { wordConvolution } from "./text-models.ts";
import { classifiedTexts, encoded, vocabularyOf } from "./tokens.ts";

type Parts = Pick<Task, "name" | "model" | "optimiser" | "recipe">;

/** Digits: training ones from the training file, queries from the test file, right labels there. */
function digitTask({ n, m, seed, flip }: TaskOptions, parts: Parts): Task {
  const [trainDigits, testDigits] = [readDigits("train"), readDigits("t10k")];
  const draw = (of: number, count: number, purpose: string) => [
    ...sampleWithoutReplacement(of, count, random(seed, purpose).below),
  ];
  const chosen = draw(trainDigits.n, n, "digits");
  const asked = draw(testDigits.n, m, "queries");
  const { labels, wrong } = flipped(
    chosen.map((row) => trainDigits.labels[row]!),
    10,
    flip,
    seed,
  );
  return {
    ...parts,
    loss: "cross-entropy",
    train: digitExamples(trainDigits, chosen, labels),
    queries: digitExamples(
      testDigits,
      asked,
      asked.map((row) => testDigits.labels[row]!),
    ),
    wrong,
    texts: null,
  };
}

const recipe = { batch: 50, schedule: "cosine", warmup: 0.1 } as const;

export const mlp = (options: TaskOptions): Task =>
  digitTask(options, {
    name: "MLP, digits",
    model: perceptron(64, options.seed),
    optimiser: { ...SGD, weightDecay: 1e-3 },
    recipe: { ...recipe, epochs: 15, learningRate: 0.05, seed: options.seed },
  });

export const cnn = (options: TaskOptions): Task =>
  digitTask(options, {
    name: "CNN, digits",
    model: convolutional(options.seed),
    optimiser: { ...SGD, weightDecay: 1e-3 },
    recipe: { ...recipe, epochs: 12, learningRate: 0.03, seed: options.seed },
  });

export const resnet = (options: TaskOptions): Task =>
  digitTask(options, {
    name: "ResNet, digits",
    model: residual(options.seed),
    optimiser: ADAMW,
    recipe: { ...recipe, epochs: 8, learningRate: 2e-3, seed: options.seed },
  });

const [VOCABULARY, LENGTH, WIDTH] = [2000, 64, 24];

/** Ham and spam: an embedding, a convolution, two classes. */
export function spam({ n, m, seed, flip }: TaskOptions): Task {
  const emails = readEmails(n + m, seed);
  const texts = emails.map(({ words }) => words);
  const vocabulary = vocabularyOf(texts.slice(0, n), VOCABULARY);
  const right = emails.map((email) => Number(email.spam));
  const { labels, wrong } = flipped(right.slice(0, n), 2, flip, seed);
  const examples = (from: number, to: number, given: number[]) =>
    classifiedTexts(encoded(texts.slice(from, to), vocabulary, LENGTH), LENGTH, given);
  return {
    name: "embedding + convolution, e-mails",
    model: wordConvolution(VOCABULARY, LENGTH, WIDTH, seed),
    loss: "cross-entropy",
    optimiser: ADAMW,
    recipe: { ...recipe, epochs: 8, learningRate: 3e-3, seed },
    train: examples(0, n, labels),
    queries: examples(n, n + m, right.slice(n)),
    wrong,
    texts: { train: texts.slice(0, n), queries: texts.slice(n) },
  };
}

/** A task may take a while to make: pre-training is part of it. */
export type TaskName = "mlp" | "cnn" | "resnet" | "spam" | "lora2" | "lora8" | "gpt";
export const TASKS: Record<TaskName, (options: TaskOptions) => Task | Promise<Task>> = {
  mlp,
  cnn,
  resnet,
  spam,
  lora2: (options) => adaptedTransformer(options, 2),
  lora8: (options) => adaptedTransformer(options, 8),
  gpt: ({ n, m, seed }) =>
    sourceTask(Math.ceil(n / SOURCE_NAMES.length), Math.ceil(m / SOURCE_NAMES.length), 8, seed).task,
};
