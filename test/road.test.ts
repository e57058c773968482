/** The whole road: model and digits in, an index built and published to real local R2, answers out of real workerd. */

import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { startWorker } from "../offline/command/demonstration.ts";
import { readShards } from "../offline/gradients/collect.ts";
import { cholesky, solveWithFactor } from "../offline/hessian/cholesky.ts";
import { readManifest } from "../offline/store/publish.ts";
import type { Manifest } from "../src/core/manifest.ts";
import { configFile, influence, smallConfig } from "./offline/demonstration.ts";

const n = 3000;
const config = { ...smallConfig(n), shard: 1000 };
const answerSchema = z.object({
  helpful: z.array(z.object({ id: z.string(), influence: z.number(), label: z.number(), flipped: z.boolean() })),
  harmful: z.array(z.object({ id: z.string(), influence: z.number() })),
  exact: z.boolean(),
  index: z.object({ version: z.string() }),
});

describe("from a model and digits to an answer over HTTP", () => {
  const { path, run, folder } = configFile(config);
  let manifest: Manifest;
  let address: string;
  let stop: () => void;

  beforeAll(async () => {
    const built = influence("build", path, "--out", run, "--persist-to", join(folder, "r2"));
    expect(built.status, built.stderr).toBe(0);
    manifest = readManifest(join(run, "index"));
    const served = await startWorker(join(folder, "r2"));
    address = served.address;
    stop = () => served.worker.kill();
  });
  afterAll(() => stop?.());

  /** All gradients of a split, [rows, R], from the shards; the shards' own header names the settings that made them. */
  function gradientsOf(split: string, rows: number): Float32Array {
    const key = readFileSync(join(run, "collect", `${split}-00000.shard`)).toString("hex", 24, 56);
    const values = new Float32Array(rows * manifest.dimension);
    for (const shard of readShards(join(run, "collect"), split, key, rows, config)) {
      values.set(shard.gradients, shard.first * manifest.dimension);
    }
    return values;
  }

  async function ask(query: string): Promise<z.infer<typeof answerSchema>> {
    // A connection of its own: one kept from before may have been closed while a build ran.
    const sent = request(`${address}/v1/indexes/small/influence`, { method: "POST", agent: false });
    sent.setHeader("content-type", "application/json");
    sent.end(JSON.stringify({ query, topK: 10 }));
    const [response]: IncomingMessage[] = await once(sent, "response");
    expect(response!.statusCode).toBe(200);
    return answerSchema.parse(await json(response!));
  }

  test("for 20 queries, ids and influences are those of a float64 brute force over the shards", async () => {
    const R = manifest.dimension;
    const train = gradientsOf("train", n);
    const queries = gradientsOf("queries", 40);
    const influences = Array.from({ length: 20 }, () => new Float64Array(n));
    for (const { offset, r, damping } of manifest.layers) {
      const hessian = new Float64Array(r * r);
      for (let row = 0; row < n; row++) {
        const g = train.subarray(row * R + offset, row * R + offset + r);
        for (let i = 0; i < r; i++) for (let j = 0; j <= i; j++) hessian[i * r + j]! += (g[i]! * g[j]!) / n;
      }
      let trace = 0;
      for (let i = 0; i < r; i++) trace += hessian[i * r + i]!;
      expect(damping).toBeCloseTo(Math.max(trace / n, (0.1 * trace) / r), 12);
      for (let i = 0; i < r; i++) hessian[i * r + i]! += damping;
      const factor = cholesky(hessian, r);
      influences.forEach((influence, q) => {
        const solved = solveWithFactor(
          factor,
          r,
          Float64Array.from(queries.subarray(q * R + offset, q * R + offset + r)),
        );
        for (let row = 0; row < n; row++) {
          for (let j = 0; j < r; j++) influence[row]! -= solved[j]! * train[row * R + offset + j]!;
        }
      });
    }
    for (const [q, expected] of influences.entries()) {
      const order = Array.from(expected.keys()).sort((a, b) => expected[a]! - expected[b]!);
      const answer = await ask(`test-${String(q).padStart(5, "0")}`);
      const id = (row: number) => `train-${String(row).padStart(5, "0")}`;
      expect(answer.exact).toBe(true);
      expect(answer.helpful.map((entry) => entry.id)).toEqual(order.slice(0, 10).map(id));
      expect(answer.harmful.map((entry) => entry.id)).toEqual(order.slice(-10).reverse().map(id));
      for (const entry of [...answer.helpful, ...answer.harmful]) {
        const row = Number(entry.id.slice("train-".length));
        expect(Math.abs(entry.influence / expected[row]! - 1)).toBeLessThan(1e-5);
      }
    }
  });

  test("the command line gives the same answer", async () => {
    const { stdout, status } = influence("query", join(run, "index"), "test-00003", "--json");
    expect(status).toBe(0);
    const printed = answerSchema.parse({ ...JSON.parse(stdout) });
    const answered = await ask("test-00003");
    expect(printed).toEqual(answered);
    expect(influence("query", join(run, "index"), "test-99999").stderr).toMatch(
      /influence: query test-99999: no such stored query; ids run from test-00000 to test-00039/,
    );
  });

  test("publishing again uploads nothing; an altered index file is refused, and the version before it keeps serving", async () => {
    const build = (...more: string[]) =>
      influence("build", path, "--out", run, "--persist-to", join(folder, "r2"), ...more);
    expect(build().stderr).toMatch(/publish {2}already in local R2/);

    // Another damping makes other rows; one byte of it changes between the build and the upload.
    writeFileSync(path, JSON.stringify({ ...config, damping: "trace" }));
    const rebuilt = influence("index", path, "--out", run);
    expect(rebuilt.status, rebuilt.stderr).toBe(0);
    const file = join(run, "index", "coarse.bin");
    const altered = readFileSync(file);
    altered[altered.length - 1]! ^= 1;
    writeFileSync(file, altered);
    const refused = build();
    expect(refused.status, refused.stderr).toBe(1);
    expect(refused.stderr).toMatch(/coarse\.bin: expected \d+ bytes of sha256 [0-9a-f]{64}, got \d+ of [0-9a-f]{64}/);
    expect((await ask("test-00003")).index.version).toBe(manifest.version);
  });
});
