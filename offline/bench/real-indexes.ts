/**
 * Real influence vectors of other kinds of model than the demonstration's: a transformer and a classifier over an embedding, each
 * trained on text that packages carry and built into an index by the product's own steps. Kept in runs/bench.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { readConfig } from "../command/config.ts";
import type { Progress } from "../command/progress.ts";
import { readEmails } from "../evaluate/tasks/emails.ts";
import { trained, trainedModel } from "../evaluate/tasks/prepare.ts";
import { readPassages, SOURCE_NAMES } from "../evaluate/tasks/sources.ts";
import type { Task } from "../evaluate/tasks/task.ts";
import { languageModel, wordConvolution } from "../evaluate/tasks/text-models.ts";
import { classifiedTexts, continuedTexts, encoded, vocabularyOf } from "../evaluate/tasks/tokens.ts";
import { bytesOf } from "../index/index-files.ts";
import { ADAMW } from "../train/optimiser.ts";
import { builtRun } from "./vectors.ts";

const FOLDER = resolve("runs", "bench");
const ROWS = 20_000;
const QUERIES = 200;
/** Kept coordinates, as the demonstration has. */
const R = 512;
const SEED = 1;

/** A model to train, and its examples as the index's build reads them. */
interface Subject {
  task: Pick<Task, "model" | "loss" | "train" | "recipe">;
  /** int64 [rows, length] of the training examples, then of the queries. */
  ids: [BigInt64Array, BigInt64Array];
  length: number;
  /** int64 [rows], or [rows, length] where each position has a target. */
  targets: [BigInt64Array, BigInt64Array];
}

const recipe = { batch: 50, schedule: "cosine", warmup: 0.1, seed: SEED } as const;

/** Ham and spam, e-mails cut into windows of words: an embedding of which a window uses a few rows. */
function emailWindows(): Subject {
  const [vocabularySize, length, width] = [2000, 64, 24];
  const windows = readEmails(5000, SEED).flatMap(({ words, spam }) =>
    Array.from({ length: Math.floor(words.length / length) }, (_, at) => ({
      words: words.slice(at * length, (at + 1) * length),
      spam: Number(spam),
    })),
  );
  if (windows.length < ROWS + QUERIES) {
    throw new Error(`e-mails: expected ${ROWS + QUERIES} windows of ${length} words, got ${windows.length}`);
  }
  const [train, asked] = [windows.slice(0, ROWS), windows.slice(-QUERIES)];
  const texts = train.map(({ words }) => words);
  const vocabulary = vocabularyOf(texts, vocabularySize);
  const labels = train.map(({ spam }) => spam);
  const ids = encoded(texts, vocabulary, length);
  const queries = asked.map(({ words }) => words);
  return {
    task: {
      model: wordConvolution(vocabularySize, length, width, SEED),
      loss: "cross-entropy",
      train: classifiedTexts(ids, length, labels),
      recipe: { ...recipe, epochs: 4, learningRate: 3e-3 },
    },
    ids: [ids, encoded(queries, vocabulary, length)],
    length,
    targets: [BigInt64Array.from(labels, BigInt), BigInt64Array.from(asked, ({ spam }) => BigInt(spam))],
  };
}

/** Passages of six sources, character by character, for a small GPT. */
function passages(): Subject {
  const length = 64;
  const each = Math.ceil((ROWS + QUERIES) / SOURCE_NAMES.length);
  const texts = readPassages(each, length + 1, SEED).map(({ text }) => text);
  const idsOf = (some: readonly string[], from: number, to: number) =>
    BigInt64Array.from(
      some.flatMap((text) => [...text.slice(from, to)]),
      (character) => BigInt(character.charCodeAt(0)),
    );
  const [train, asked] = [texts.slice(0, ROWS), texts.slice(ROWS, ROWS + QUERIES)];
  const model = { layers: 2, width: 48, heads: 4, vocabulary: 128, length, rank: 0 };
  return {
    task: {
      model: languageModel(model, SEED),
      loss: "next-token",
      train: continuedTexts(idsOf(train, 0, length + 1), length),
      recipe: { ...recipe, epochs: 2, learningRate: 3e-3 },
    },
    ids: [idsOf(train, 0, length), idsOf(asked, 0, length)],
    length,
    targets: [idsOf(train, 1, length + 1), idsOf(asked, 1, length + 1)],
  };
}

const SUBJECTS: Record<string, () => Subject> = { "GPT, passages": passages, "embedding, e-mails": emailWindows };

/** Trains and builds what is not there yet. Returns the indexes' folders by the model's name. */
export async function prepareIndexes(progress: Progress): Promise<Map<string, string>> {
  const folders = new Map<string, string>();
  for (const [at, [title, make]] of Object.entries(SUBJECTS).entries()) {
    const folder = join(FOLDER, `model-${at + 1}`);
    const configuration = join(folder, "influence.yaml");
    if (!existsSync(configuration)) {
      mkdirSync(folder, { recursive: true });
      await writeSubject(folder, make(), title);
    }
    folders.set(title, await builtRun(folder, readConfig(configuration), progress));
  }
  return folders;
}

/** Trains the model, and writes it beside its examples; the configuration, which says that all is there, last. */
async function writeSubject(folder: string, { task, ids, length, targets }: Subject, title: string): Promise<void> {
  const whole: Task = { ...task, name: title, optimiser: ADAMW, queries: task.train, wrong: null, texts: null };
  writeFileSync(join(folder, "model.onnx"), await trainedModel(whole, await trained(whole)));
  const split = (at: 0 | 1) => {
    const name = at === 0 ? "train" : "queries";
    writeNpy(join(folder, `${name}.npy`), ids[at], [ids[at].length / length, length]);
    const rows = ids[at].length / length;
    writeNpy(join(folder, `${name}-targets.npy`), targets[at], targets[at].length === rows ? [rows] : [rows, length]);
    return {
      inputs: { ids: { file: `${name}.npy` } },
      target: { file: `${name}-targets.npy` },
      idPrefix: `${name}-`,
    };
  };
  const configuration = {
    name: "bench",
    title,
    model: "model.onnx",
    loss: task.loss,
    r: { total: R },
    seed: SEED,
    train: split(0),
    queries: split(1),
  };
  // JSON is YAML.
  writeFileSync(join(folder, "influence.yaml"), JSON.stringify(configuration, null, 2));
}

/** int64 in NumPy's format, version 1 (NEP 1): the header ends at a multiple of 64. */
function writeNpy(path: string, values: BigInt64Array, shape: readonly number[]): void {
  const described = `{'descr': '<i8', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const header = `${described.padEnd(117)}\n`;
  const head = Buffer.from(`\x93NUMPY\x01\x00\x00\x00${header}`, "latin1");
  head.writeUInt16LE(header.length, 8);
  writeFileSync(path, Buffer.concat([head, bytesOf(values)]));
}
