/** What `verify` measured, kept beside the run and carried into the manifest of the index that it was measured on. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { type Fidelity, fidelitySchema } from "../../src/core/manifest.ts";

const keptSchema = z.object({
  /** The gradient graph and the damping that were measured: of others it says nothing. */
  graphSha256: z.string(),
  damping: z.string(),
  measured: fidelitySchema,
});

const pathOf = (run: string) => join(run, "fidelity.json");

export function writeFidelity(run: string, kept: z.infer<typeof keptSchema>): void {
  writeFileSync(pathOf(run), `${JSON.stringify(kept, null, 2)}\n`);
}

/** What was measured of this graph with this damping; null when nothing was, or by an older version that measured other things. */
export function readFidelity(run: string, graphSha256: string, damping: string): Fidelity | null {
  if (!existsSync(pathOf(run))) return null;
  const { success, data } = keptSchema.safeParse(JSON.parse(readFileSync(pathOf(run), "utf8")));
  return success && data.graphSha256 === graphSha256 && data.damping === damping ? data.measured : null;
}
