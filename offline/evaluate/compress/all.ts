/** Every compressor that the experiments compare. */
import type { Compressor } from "./compressor.ts";
import { eigenbasis } from "./eigenbasis.ts";
import { fjlt } from "./fjlt.ts";
import { gaussian } from "./gaussian.ts";
import { grid } from "./grid.ts";
import { factoredImportance, importance } from "./importance.ts";
import { logra, lograPca } from "./logra.ts";
import { factoredThenSjlt, importanceThenSjlt, uniformThenSjlt } from "./mask-sjlt.ts";
import { none } from "./none.ts";
import { pca } from "./pca.ts";
import { sjlt } from "./sjlt.ts";
import { uniform } from "./uniform.ts";

export const COMPRESSORS: readonly Compressor[] = [
  uniform,
  grid,
  importance,
  factoredImportance,
  uniformThenSjlt,
  importanceThenSjlt,
  factoredThenSjlt,
  sjlt,
  fjlt,
  gaussian,
  logra,
  lograPca,
  eigenbasis,
  pca,
  none,
];

/** The compressor of that name. */
export function compressorOf(name: string): Compressor {
  const found = COMPRESSORS.find((compressor) => compressor.name === name);
  if (!found) {
    throw new Error(
      `compressor ${name}: expected one of ${COMPRESSORS.map((compressor) => compressor.name).join("; ")}`,
    );
  }
  return found;
}
