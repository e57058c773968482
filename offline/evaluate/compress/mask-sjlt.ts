/**
 * Mask, then SJLT (GraSS, arXiv 2505.18976): 8·r coordinates are kept, and added with random signs into r. The mask is uniform
 * there; here also by importance.
 */
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import type { Compressor, Setting } from "./compressor.ts";
import { drawnByFactors, drawnByMeanSquare } from "./importance.ts";
import { sparseSigns } from "./sjlt.ts";

/** Coordinates kept for each number of the result. */
const KEPT = 8;

const maskThenSigns = (
  name: string,
  needs: Compressor["needs"],
  mask: (setting: Setting, count: number) => Uint32Array,
): Compressor => ({
  name,
  needs,
  projection: (setting) => {
    const { layer, r, seed } = setting;
    return sparseSigns(layer.d, r, mask(setting, Math.min(layer.d, KEPT * r)), seed, layer.name);
  },
});

export const uniformThenSjlt = maskThenSigns("dropout 8r, then SJLT", "nothing", ({ layer, seed }, count) =>
  sampleWithoutReplacement(layer.d, count, random(seed, `mask/${layer.name}`).below),
);
export const importanceThenSjlt = maskThenSigns("importance 8r, then SJLT", "calibration", drawnByMeanSquare);
export const factoredThenSjlt = maskThenSigns("factored importance 8r, then SJLT", "calibration", drawnByFactors);
