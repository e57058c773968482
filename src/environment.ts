/** What a deployment gives the Worker (wrangler.toml), and how a request reaches the open indexes with it. */
import type { Context } from "hono";
import type { Host } from "./isolate.ts";
import { Problem } from "./problem.ts";

export interface Bindings {
  BUCKET: R2Bucket;
  /** Bytes of index that one isolate may hold, in decimal. */
  RESIDENT_BYTES: string;
}

export type Environment = { Bindings: Bindings };

/** Throws 503 when the deployment's settings are not usable. */
export function hostOf(c: Context<Environment>): Host {
  const budget = Number(c.env.RESIDENT_BYTES);
  if (!Number.isSafeInteger(budget) || budget <= 0) {
    throw new Problem(
      "not-ready",
      `RESIDENT_BYTES: expected a number of bytes, got "${c.env.RESIDENT_BYTES}"; set it in wrangler.toml.`,
    );
  }
  return { bucket: c.env.BUCKET, budget, waitUntil: (promise) => c.executionCtx.waitUntil(promise) };
}
