import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { readConfig } from "../../offline/command/config.ts";
import { buildToIndex } from "../../offline/command/pipeline.ts";
import { progressTo } from "../../offline/command/progress.ts";
import { ALONE, type Run } from "../../offline/command/run.ts";
import type { Bucket } from "../../offline/store/bucket.ts";
import { checkedFile } from "../../offline/store/checked-file.ts";
import { publish } from "../../offline/store/publish.ts";
import { configFile, smallConfig } from "./demonstration.ts";

/** A bucket that takes everything and keeps the names. */
function openBucket(): Bucket & { names: string[] } {
  const names: string[] = [];
  return {
    name: "a bucket",
    names,
    get: async () => null,
    size: async () => null,
    put: async (key) => void names.push(key),
    putFile: async (key, file, advance) => {
      for await (const _ of checkedFile(file, advance));
      names.push(key);
    },
    copy: async () => false,
    list: async () => [],
    delete: async () => {},
    close: async () => {},
  };
}

const progress = progressTo("json");
const quiet = { ...progress, step: () => ({ advance: () => {}, done: () => {} }), skipped: () => {}, note: () => {} };

let whole: Run;
beforeAll(async () => {
  const { path, run } = configFile({ ...smallConfig(60), shard: 30 });
  whole = { ...ALONE, config: readConfig(path), folder: run, progress: quiet };
  await buildToIndex(whole);
});

/** A copy of the run with one byte of a file changed, in the middle. */
function flipped(folder: string, file: string): Run {
  const run = join(mkdtempSync(join(tmpdir(), "flipped-")), "run");
  cpSync(whole.folder, run, { recursive: true, verbatimSymlinks: true });
  const path = join(run, folder, file);
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
  return { ...whole, folder: run };
}

/** What the next step says of it: one line that names the file, or the settings that no longer are those of the configuration. */
async function refusal(work: () => Promise<unknown>): Promise<string> {
  const error = await work().then(
    () => new Error("nothing was noticed"),
    (reason: Error) => reason,
  );
  expect(error.message).not.toContain("\n");
  return error.message;
}

test("a flipped byte in any file of compile, collect or fit stops the step that reads it, by the file's name", async () => {
  for (const folder of ["compile", "collect", "fit"]) {
    for (const file of readdirSync(join(whole.folder, folder))) {
      const run = flipped(folder, file);
      for (const later of ["fit", "index"].slice(folder === "fit" ? 1 : 0))
        rmSync(join(run.folder, later), { recursive: true });
      const named = file === "sums.json" ? /\.json/ : new RegExp(file.replaceAll(".", "\\."));
      expect(await refusal(() => buildToIndex(run)), `${folder}/${file}`).toMatch(named);
      expect(existsSync(join(run.folder, "index")), `${folder}/${file}`).toBe(false);
    }
  }
});

test("a flipped byte in any file of an index stops its publication before the pointer names it", async () => {
  const files = readdirSync(join(whole.folder, "index"));
  expect(files).toContain("examples.images");
  for (const file of files) {
    const run = flipped("index", file);
    const bucket = openBucket();
    const work = async () => publish(await buildToIndex(run), bucket, quiet.step());
    expect(await refusal(work), file).toMatch(/\.json|:/);
    expect(
      bucket.names.filter((name) => name.endsWith("current.json")),
      file,
    ).toEqual([]);
  }
});
