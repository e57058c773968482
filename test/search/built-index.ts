/** Indexes built from rows in memory, for tests. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describeFile } from "../../offline/index/index-files.ts";
import { indexRows } from "../../offline/index/index-rows.ts";
import type { MixingDesign } from "../../offline/index/mixing.ts";
import { folderSource } from "../../offline/store/folder-source.ts";
import { FILES, FORMAT, type Manifest } from "../../src/core/manifest.ts";
import type { IndexSource } from "../../src/core/source.ts";

export interface BuiltIndex {
  folder: string;
  manifest: Manifest;
  source: IndexSource;
  remove(): Promise<void>;
}

/** Indexes `rows` (float32 [n, R]) in a new folder. `queryMeanSquare` defaults to ones; nothing is mixed unless `mix` says how. */
export async function buildIndex(
  rows: Float32Array,
  R: number,
  queryMeanSquare = new Float64Array(R).fill(1),
  mix: (exponents: Int16Array) => MixingDesign | null = () => null,
): Promise<BuiltIndex> {
  const folder = await mkdtemp(path.join(tmpdir(), "index-"));
  const n = rows.length / R;
  await writeFile(path.join(folder, FILES.rows), rows);
  const mixing = await indexRows(folder, { n, R, queryMeanSquare, seed: 7, mix });
  return {
    folder,
    manifest: { ...(await manifestOf(folder, n, R)), ...(mixing === null ? {} : { mixing }) },
    source: folderSource(folder),
    remove: () => rm(folder, { recursive: true }),
  };
}

/** A manifest of the files that lie in `folder`. */
export async function manifestOf(folder: string, n: number, R: number): Promise<Manifest> {
  const files: Manifest["files"] = {};
  for (const name of (await readdir(folder)).sort()) {
    files[name] = describeFile(folder, name);
  }
  return {
    format: FORMAT,
    name: "test",
    version: "0123456789abcdef",
    title: "test",
    n,
    queries: 0,
    dimension: R,
    layers: [{ name: "all", offset: 0, r: R, d: R, parameters: [], damping: 1, trace: 1 }],
    compressor: { kind: "uniform", seed: 7 },
    dampingRule: "default",
    loss: "none",
    fidelity: null,
    files,
  };
}
