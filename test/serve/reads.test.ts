/** A Worker may read fifty times in a request on the smallest plan: one that also opens the index stays within it, whatever it asks. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { folderBucket } from "../../offline/store/folder-bucket.ts";
import { api } from "../../src/api.ts";
import type { Bucket } from "../../src/bucket.ts";
import { FILES, manifestSchema } from "../../src/core/manifest.ts";
import { MOST_READS } from "../../src/core/row-reader.ts";
import { leastBytes } from "../../src/open-index.ts";
import { syntheticObjects } from "../synthetic.ts";

const SMALLEST_PLAN = 50;
const folder = await mkdtemp(path.join(tmpdir(), "reads-"));
afterAll(() => rm(folder, { recursive: true }));

test("a first request reads ten times to open the index, and then at most three times twelve", async () => {
  // So many rows that they take more memory than those kept of the store's: with the least memory, none is resident.
  const objects = await syntheticObjects({ name: "many", seed: 1, n: 30_000, queries: 300, images: false });
  await mkdir(folder, { recursive: true });
  for (const [key, bytes] of objects) await writeFile(path.join(folder, path.basename(key)), bytes);
  const manifest = manifestSchema.parse(
    JSON.parse(new TextDecoder().decode([...objects].find(([key]) => key.endsWith(FILES.manifest))?.[1])),
  );
  const { bucket } = await folderBucket([folder]);
  const reads: string[] = [];
  const counted: Bucket = {
    ...bucket,
    get(key, options) {
      reads.push(`${path.basename(key)}${options?.range ? ", a part" : ""}`);
      return bucket.get(key, options);
    },
  };
  const bindings = { BUCKET: counted, RESIDENT_BYTES: String(leastBytes(manifest)), kernel: loadKernel() };
  const context = { waitUntil() {}, passThroughOnException() {}, props: {} };
  const ask = async (body: unknown) => {
    reads.length = 0;
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const response = await api.fetch(new Request("http://api/v1/indexes/many/influence", init), bindings, context);
    expect(response.status).toBe(200);
    return Object(await response.json());
  };
  const queries = Array.from({ length: 250 }, (_, at) => `test/${at % 2 === 0 ? "ham" : "spam"} ${at}`);
  const { answers } = await ask({ queries, topK: 40 });
  expect(answers).toHaveLength(250);
  expect(answers.every(({ exact }: { exact: boolean }) => exact)).toBe(true);
  const opening = reads.filter((read) => !read.endsWith("a part")).length;
  expect(opening).toBeLessThanOrEqual(10);
  expect(reads.length - opening).toBeGreaterThan(0);
  expect(10 + 3 * MOST_READS).toBeLessThanOrEqual(SMALLEST_PLAN);
  expect(reads.length).toBeLessThanOrEqual(SMALLEST_PLAN);
  await ask({ query: "test/ham 0", topK: 1000 });
  expect(reads.length).toBeLessThanOrEqual(3 * MOST_READS);
});
