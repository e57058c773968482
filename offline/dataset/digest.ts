/** The sha256 of dataset files, remembered by path, size and time of change, so that a large file is read for it only once. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import * as z from "zod";

const memorySchema = z.record(z.string(), z.object({ size: z.number(), mtimeMs: z.number(), sha256: z.string() }));

export async function digestOfFile(path: string, memoryPath: string): Promise<string> {
  const memory = existsSync(memoryPath) ? memorySchema.parse(JSON.parse(readFileSync(memoryPath, "utf8"))) : {};
  const { size, mtimeMs } = statSync(path);
  const known = memory[path];
  if (known?.size === size && known.mtimeMs === mtimeMs) return known.sha256;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  const sha256 = hash.digest("hex");
  mkdirSync(dirname(memoryPath), { recursive: true });
  writeFileSync(memoryPath, JSON.stringify({ ...memory, [path]: { size, mtimeMs, sha256 } }));
  return sha256;
}
