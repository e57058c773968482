/** Whether the Worker runs, and whether it can answer. */
import { Hono } from "hono";
import { answer } from "./body.ts";
import { answers } from "./describe.ts";
import { type Environment, hostOf } from "./environment.ts";
import { heldBytes, openIndex } from "./isolate.ts";
import { Problem, problemOf } from "./problem.ts";
import { healthAnswer, readyAnswer } from "./schema.ts";
import { indexNames } from "./store.ts";

const uncached = { "Cache-Control": "no-store" };

export const health = new Hono<Environment>()
  .get("/healthz", answers("The Worker runs.", healthAnswer), (c) => answer(c, { status: "ok" }, uncached))
  .get("/readyz", answers("The bucket answers and an index is open.", readyAnswer, [503]), async (c) => {
    const host = hostOf(c);
    const names = await indexNames(host.bucket);
    let reason = "none published";
    for (const name of names) {
      try {
        const { manifest } = await openIndex(host, name);
        const ready = { status: "ready", index: name, version: manifest.version, residentBytes: heldBytes() };
        return answer(c, ready, uncached);
      } catch (error) {
        reason = `of ${names.length} none: ${problemOf(error).message}`;
      }
    }
    throw new Problem("not-ready", `indexes: expected one that can be loaded, got ${reason}`, { "Retry-After": "10" });
  });
