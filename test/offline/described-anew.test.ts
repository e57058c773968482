import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readConfig } from "../../offline/command/config.ts";
import { buildToIndex } from "../../offline/command/pipeline.ts";
import { progressTo } from "../../offline/command/progress.ts";
import { ALONE } from "../../offline/command/run.ts";
import { readManifest } from "../../offline/store/publish.ts";
import { FILES } from "../../src/core/manifest.ts";
import { configFile, smallConfig } from "./demonstration.ts";

const progress = progressTo("json");
const quiet = { ...progress, step: () => ({ advance: () => {}, done: () => {} }), skipped: () => {}, note: () => {} };

test("another title makes another version of the index, from the files that are there, and the one that a build from nothing makes", async () => {
  const { path, run: folder } = configFile({ ...smallConfig(60), shard: 30 });
  const build = async () =>
    readManifest(await buildToIndex({ ...ALONE, config: readConfig(path), folder, progress: quiet }));
  const madeAt = () => statSync(join(folder, "index", FILES.rows)).ctimeMs;
  const first = await build();
  const rows = madeAt();
  writeFileSync(path, JSON.stringify({ ...smallConfig(60), shard: 30, title: "Other digits" }));
  const renamed = await build();
  expect(renamed).toMatchObject({ title: "Other digits", files: first.files });
  expect(renamed.version).not.toBe(first.version);
  expect(madeAt()).toBe(rows);
  rmSync(join(folder, "index"), { recursive: true });
  expect(await build()).toEqual(renamed);
  expect(madeAt()).toBeGreaterThan(rows);
});
