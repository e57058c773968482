/**
 * Ham and spam by a small transformer: pre-trained to continue novels, speeches and other people's e-mails, then fine-tuned through
 * low-rank adapters (LoRA, arXiv 2106.09685) and a new head, as Table 1 of arXiv 2509.15651 has it for RoBERTa.
 */
import { ADAMW } from "../../train/optimiser.ts";
import { train } from "../../train/train.ts";
import { openTrainer, withParameters } from "../../train/trainer.ts";
import { THREADS } from "../product.ts";
import { readEmails, wordsOf } from "./emails.ts";
import { asFile } from "./files.ts";
import { flipped } from "./flips.ts";
import { readPassages, SOURCE_NAMES } from "./sources.ts";
import type { Task, TaskOptions } from "./task.ts";
import { languageModel, type TransformerSize, textClassifier } from "./text-models.ts";
import { classifiedTexts, continuedTexts, encoded, vocabularyOf } from "./tokens.ts";

const SIZE: TransformerSize = { layers: 2, width: 48, heads: 4, vocabulary: 1500, length: 48, rank: 0 };
/** Passages of each source, and their characters: about as many words as the model has positions. */
const [PASSAGES, CHARACTERS] = [400, 280];
const PRE_TRAINING = { epochs: 4, batch: 25, learningRate: 3e-3, schedule: "cosine", warmup: 0.1 } as const;

export async function adaptedTransformer({ n, m, seed, flip }: TaskOptions, rank: number): Promise<Task> {
  const { length, vocabulary: words } = SIZE;
  const emails = readEmails(n + m, seed);
  const texts = emails.map((email) => email.words);
  const prose = new Set(["novel", "speeches", "e-mails"]);
  const passages = readPassages(PASSAGES, CHARACTERS, seed)
    .filter(({ source }) => prose.has(SOURCE_NAMES[source] ?? ""))
    .map(({ text }) => wordsOf(text));
  const vocabulary = vocabularyOf([...passages, ...texts.slice(0, n)], words);

  const general = languageModel(SIZE, seed);
  const { state } = await asFile(general, async (path) => {
    const trainer = await openTrainer(path, { loss: "next-token", optimiser: ADAMW, threads: THREADS });
    const examples = continuedTexts(encoded(passages, vocabulary, length + 1), length);
    const result = await train(trainer, examples, { ...PRE_TRAINING, seed });
    await trainer.release();
    return result;
  });
  // The classifier's decoder has the language model's names: it takes those weights, and keeps its own adapters and head.
  const model = await asFile(textClassifier({ ...SIZE, rank }, seed), async (path) =>
    withParameters(path, state.parameters),
  );

  const right = emails.map(({ spam }) => Number(spam));
  const { labels, wrong } = flipped(right.slice(0, n), 2, flip, seed);
  const examples = (from: number, to: number, given: number[]) =>
    classifiedTexts(encoded(texts.slice(from, to), vocabulary, length), length, given);
  return {
    name: `transformer with LoRA of rank ${rank}, e-mails`,
    model,
    loss: "cross-entropy",
    layers: ["lora", "head"],
    optimiser: ADAMW,
    recipe: { epochs: 15, batch: 50, learningRate: rank > 4 ? 5e-3 : 1e-2, schedule: "linear", warmup: 0.1, seed },
    train: examples(0, n, labels),
    queries: examples(n, n + m, right.slice(n)),
    wrong,
    texts: { train: texts.slice(0, n), queries: texts.slice(n) },
  };
}
