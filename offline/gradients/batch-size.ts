/** The largest batch that stays within a memory cap, found by trying: what a graph needs depends on the model, the device and the lengths. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { Dataset } from "../dataset/dataset.ts";
import type { CollectPlan } from "./collect.ts";
import { lanesFor, weightsOf } from "./runner.ts";
import { openGradientSession } from "./session.ts";

const LARGEST = 256;
/** Examples among which the longest are tried. */
const SAMPLE = 512;

/** Where the choice is kept. */
export const BATCH_FILE = "batch.json";

const choiceSchema = z.object({ batch: z.int().positive() });

/**
 * Doubles the batch, the longest examples first, until the memory that one run took, times the runs side by side, would pass
 * half the cap. Throws an Error when not even single examples fit.
 */
async function tryBatches(
  dataset: Dataset,
  plan: Pick<CollectPlan, "graph" | "externalData" | "device" | "threads">,
  memory: number,
): Promise<number> {
  const rows = await dataset.order(Array.from({ length: Math.min(dataset.n, SAMPLE) }, (_, row) => row));
  const longest = rows.reverse();
  const runs = plan.device === "cpu" ? lanesFor(weightsOf(plan.graph, plan.externalData), plan.threads) : 1;
  const before = process.memoryUsage().rss;
  const session = await openGradientSession(plan.graph, plan.device);
  let batch = 0;
  try {
    for (let next = 1; next <= Math.min(LARGEST, longest.length); next *= 2) {
      const outputs = await session.run(await dataset.feeds(longest.slice(0, next)));
      for (const output of Object.values(outputs)) output.dispose();
      const taken = before + runs * Math.max(0, process.memoryUsage().rss - before);
      if (taken > memory) break;
      batch = next;
      if (before + 2 * (taken - before) > memory) break;
    }
  } finally {
    await session.release();
  }
  if (batch === 0) {
    throw new Error(
      `--memory: ${runs} examples side by side take more than ${(memory / 1e9).toFixed(1)} GB; allow more, or set --threads lower`,
    );
  }
  return batch;
}

/**
 * The batch for a memory cap in bytes. The first worker's choice is kept in the step's folder and is everyone's, so that the
 * bytes of the shards do not depend on who made them.
 */
export async function chooseBatch(
  folder: string,
  dataset: Dataset,
  plan: Pick<CollectPlan, "graph" | "externalData" | "device" | "threads">,
  memory: number,
): Promise<number> {
  const path = join(folder, BATCH_FILE);
  if (!existsSync(path)) {
    const batch = await tryBatches(dataset, plan, memory);
    try {
      writeFileSync(path, JSON.stringify({ batch }), { flag: "wx" });
    } catch (error) {
      if (!existsSync(path)) throw error;
    }
  }
  return choiceSchema.parse(JSON.parse(readFileSync(path, "utf8"))).batch;
}
