/** What `verify` measured, kept beside the run and carried into the manifest of the index that it was measured on. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { Manifest } from "../../src/core/manifest.ts";

const fidelitySchema = z.object({
  /** The gradient graph and the damping that were measured: of others it says nothing. */
  graphSha256: z.string(),
  damping: z.string(),
  measured: z.record(z.string(), z.union([z.number(), z.string()])),
});

export type Fidelity = z.infer<typeof fidelitySchema>;

const pathOf = (run: string) => join(run, "fidelity.json");

export function writeFidelity(run: string, fidelity: Fidelity): void {
  writeFileSync(pathOf(run), `${JSON.stringify(fidelity, null, 2)}\n`);
}

/** What was measured of this graph with this damping; null when nothing was. */
export function readFidelity(run: string, graphSha256: string, damping: string): Manifest["fidelity"] {
  if (!existsSync(pathOf(run))) return null;
  const fidelity = fidelitySchema.parse(JSON.parse(readFileSync(pathOf(run), "utf8")));
  return fidelity.graphSha256 === graphSha256 && fidelity.damping === damping ? fidelity.measured : null;
}
