/** A small GPT over characters, trained on passages of six unlike sources. */
import { ADAMW } from "../../train/optimiser.ts";
import { wordsOf } from "./emails.ts";
import { readPassages, SOURCE_NAMES } from "./sources.ts";
import type { Task } from "./task.ts";
import { languageModel } from "./text-models.ts";
import { continuedTexts } from "./tokens.ts";

/** Positions of the model; a passage is one character longer. */
const LENGTH = 96;
/** ASCII. */
const VOCABULARY = 128;

const characters = (texts: readonly string[]): BigInt64Array =>
  BigInt64Array.from(
    texts.flatMap((text) => [...text]),
    (character) => BigInt(character.charCodeAt(0)),
  );

export function sourceTask(each: number, queriesEach: number, epochs: number, seed: number | string) {
  const passages = readPassages(each + queriesEach, LENGTH + 1, seed);
  const count = each * SOURCE_NAMES.length;
  const [train, queries] = [passages.slice(0, count), passages.slice(count)];
  const textsOf = (of: typeof passages) => of.map(({ text }) => text);
  const size = { layers: 2, width: 48, heads: 4, vocabulary: VOCABULARY, length: LENGTH, rank: 0 };
  const task: Task = {
    name: "GPT, six sources",
    model: languageModel(size, seed),
    loss: "next-token",
    optimiser: ADAMW,
    recipe: { epochs, batch: 20, learningRate: 3e-3, schedule: "cosine", warmup: 0.1, seed },
    train: continuedTexts(characters(textsOf(train)), LENGTH),
    queries: continuedTexts(characters(textsOf(queries)), LENGTH),
    wrong: null,
    texts: { train: textsOf(train).map(wordsOf), queries: textsOf(queries).map(wordsOf) },
  };
  return {
    task,
    trainSources: train.map(({ source }) => source),
    querySources: queries.map(({ source }) => source),
  };
}
