import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readConfig } from "../../offline/command/config.ts";
import { buildToIndex } from "../../offline/command/pipeline.ts";
import { progressTo } from "../../offline/command/progress.ts";
import { ALONE } from "../../offline/command/run.ts";
import { finishStep, reopenStep } from "../../offline/command/step.ts";
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

test("an index whose step says nothing of its planes is made again, whatever is said of it; its gradients and fit stay", async () => {
  const { path, run: folder } = configFile({ ...smallConfig(60), shard: 30 });
  const build = async () =>
    readManifest(await buildToIndex({ ...ALONE, config: readConfig(path), folder, progress: quiet }));
  const madeAt = (file: string) => statSync(join(folder, file)).ctimeMs;
  const kept = () => ["collect/step.json", "fit/step.json"].map(madeAt);
  const planes = () => madeAt(`index/${FILES.coarse}`);
  const first = await build();
  const gradientsAndFit = kept();
  for (const title of [first.title, "Other digits"]) {
    const before = planes();
    const { planes: how, ...former } = JSON.parse(readFileSync(join(folder, "index", "step.json"), "utf8"));
    expect(how).toEqual(expect.any(String));
    // A finished step as an earlier release leaves it.
    finishStep(reopenStep(folder, "index", former, ["planes"])!);
    writeFileSync(path, JSON.stringify({ ...smallConfig(60), shard: 30, title }));
    expect(await build()).toMatchObject({ title, files: first.files });
    const after = planes();
    expect(after).toBeGreaterThan(before);
    await build();
    expect(planes()).toBe(after);
    expect(kept()).toEqual(gradientsAndFit);
  }
});
