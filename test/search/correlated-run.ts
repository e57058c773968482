/** A run as its steps leave it, for tests: gradients, a fit that names them, and the index of rows made of them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { emptyShard, shardName, writeShard } from "../../offline/gradients/shard.ts";
import { indexPart, type PartGradients, spreadOver } from "../../offline/index/part.ts";
import { FILES, type Manifest } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { manifestOf } from "./built-index.ts";

export interface CorrelatedRun {
  n: number;
  R: number;
  /** The index's folder, unmixed, with ten stored queries. */
  folder: string;
  manifest: Manifest;
  /** [n, R] each: the gradients that count, and the rows made of them. */
  gradients: Float32Array;
  rows: Float32Array;
  queries: Float32Array[];
  remove(): void;
}

const SETTINGS = "5e".repeat(32);

/**
 * n = 2,000 and R = 128. Gradients and rows lie mostly in eight directions each, and not the same ones: mixing gains much. There are two
 * shards, with an example here and there that was left out.
 */
export async function correlatedRun(): Promise<CorrelatedRun> {
  const [n, R, most, m] = [2000, 128, 1400, 10];
  const generator = random(9, "run");
  const normal = (length: number) => Float64Array.from({ length }, generator.normal);
  const along = (directions: Float64Array, count: number) => {
    const values = new Float32Array(count * R);
    for (let i = 0; i < count; i++) {
      const weights = normal(directions.length / R);
      for (let j = 0; j < R; j++) {
        const sum = weights.reduce((before, weight, s) => before + weight * directions[s * R + j]!, 0);
        values[i * R + j] = sum + generator.normal() / 10;
      }
    }
    return values;
  };
  const asked = normal(8 * R);
  const gradients = along(asked, n);
  const rows = along(normal(8 * R), n);
  const queries = along(asked, m);

  const run = mkdtempSync(path.join(tmpdir(), "run-"));
  const [collect, fit, folder] = ["collect", "fit", "index"].map((step) => path.join(run, step)) as [
    string,
    string,
    string,
  ];
  for (const step of [collect, fit, folder]) mkdirSync(step);
  for (let done = 0, index = 0, first = 0; done < n; index++) {
    const shard = emptyShard(first, Math.min(most, n - done + 20), R);
    for (let row = 0; row < shard.rows; row++) {
      if (row % 100 === 7 || done === n) shard.valid[row] = 0;
      else shard.gradients.set(gradients.subarray(done * R, ++done * R), row * R);
    }
    first += shard.rows;
    writeShard(path.join(collect, shardName("train", index)), shard, SETTINGS);
  }
  writeFileSync(path.join(fit, "step.json"), JSON.stringify({ shards: SETTINGS }));
  writeFileSync(path.join(folder, FILES.rows), rows);
  writeFileSync(path.join(folder, FILES.queries), queries);
  const plain: Pick<PartGradients, "meanSquare"> & { typical: null } = {
    typical: null,
    meanSquare: new Float64Array(R).fill(1),
  };
  const whole = { ...(await manifestOf(folder, n, R)), queries: m };
  const manifest = await indexPart(folder, whole, n, spreadOver(R, R), plain);
  return {
    n,
    R,
    folder,
    manifest,
    gradients,
    rows,
    queries: Array.from({ length: m }, (_, query) => queries.slice(query * R, (query + 1) * R)),
    remove: () => rmSync(run, { recursive: true }),
  };
}
