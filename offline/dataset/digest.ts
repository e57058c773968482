/** What a dataset is, as one number. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as z from "zod";
import { type ColumnFile, type Config, configured, type SplitConfig } from "../command/config.ts";
import { sha256OfFile } from "../index/index-files.ts";
import { filesOf } from "./open-column.ts";

const memorySchema = z.record(z.string(), z.object({ size: z.number(), mtimeMs: z.number(), sha256: z.string() }));

/** The sha256 of a file, remembered by path, size and time of change, so that a large file is read for it only once. */
function rememberedDigest(path: string, memoryPath: string): string {
  const memory = existsSync(memoryPath) ? memorySchema.parse(JSON.parse(readFileSync(memoryPath, "utf8"))) : {};
  if (!existsSync(path)) throw new Error(`no such dataset file: ${path}`);
  const { size, mtimeMs } = statSync(path);
  const known = memory[path];
  if (known?.size === size && known.mtimeMs === mtimeMs) return known.sha256;
  const sha256 = sha256OfFile(path);
  mkdirSync(dirname(memoryPath), { recursive: true });
  writeFileSync(memoryPath, JSON.stringify({ ...memory, [path]: { size, mtimeMs, sha256 } }));
  return sha256;
}

/**
 * sha256 of everything that determines a split's gradients and ids: the files' contents and how they are read. Columns that
 * are only shown do not count.
 */
export function digestOfSplit(config: Config, split: SplitConfig, scratch: string): string {
  const entries = [...Object.values(split.inputs), split.target, split.ids, split.gradients].filter(
    (entry): entry is ColumnFile => entry !== undefined && "file" in entry,
  );
  const paths = entries.flatMap((entry) => [
    ...filesOf(entry, config.folder),
    ...(entry.tokenizer === undefined ? [] : [configured(config, entry.tokenizer)]),
  ]);
  if (split.flipped !== undefined) paths.push(configured(config, split.flipped));
  const hash = createHash("sha256");
  for (const path of [...new Set(paths)].sort()) hash.update(rememberedDigest(path, join(scratch, "digests.json")));
  const { columns: _, image: __, ...determining } = split;
  // Where the files lie does not count, only what they hold.
  return hash
    .update(
      JSON.stringify(determining, (key, value) => (["file", "tokenizer", "flipped"].includes(key) ? null : value)),
    )
    .digest("hex");
}
