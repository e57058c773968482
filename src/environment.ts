/** What the API is given: by a deployment (wrangler.toml), by the runtime that it is on; and how a request reaches the open indexes with it. */
import type { Context } from "hono";
import type { Bucket } from "./bucket.ts";
import type { Kernel } from "./core/kernel/kernel.ts";
import type { Host } from "./isolate.ts";
import type { OpenBackend } from "./open-index.ts";
import { Problem } from "./problem.ts";

export interface Bindings {
  BUCKET: Bucket;
  /** Bytes of index that one isolate may hold, in decimal. */
  RESIDENT_BYTES: string;
}

/** The deployment's settings, and the search as this runtime compiles it: src/kernel.ts on Workers, offline/serve/kernel.ts on Node. */
export type Environment = { Bindings: Bindings & { kernel: Kernel; openBackend?: OpenBackend } };

/** Throws 503 when the deployment's settings are not usable. */
export function hostOf(c: Context<Environment>): Host {
  const budget = Number(c.env.RESIDENT_BYTES);
  if (!Number.isSafeInteger(budget) || budget <= 0) {
    throw new Problem(
      "not-ready",
      `RESIDENT_BYTES: expected a number of bytes, got "${c.env.RESIDENT_BYTES}"; set it in wrangler.toml.`,
    );
  }
  const { BUCKET: bucket, kernel, openBackend } = c.env;
  return { bucket, budget, kernel, openBackend, waitUntil: (promise) => c.executionCtx.waitUntil(promise) };
}
