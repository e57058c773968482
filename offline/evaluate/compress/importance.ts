/**
 * Importance dropout: coordinates drawn without replacement in proportion to their mean-square gradient, and not rescaled.
 * Weighted sampling by the r smallest −ln(u)/w (Efraimidis and Spirakis, 2006).
 */
import { random } from "../../../src/core/random.ts";
import { smallest } from "../../compress/select.ts";
import { type Compressor, keeping, type Setting } from "./compressor.ts";

/** Mean square of each coordinate over the calibration batch: [d]. */
export function meanSquares({ layer: { d }, calibration, calibrationRows }: Setting): Float64Array {
  const mean = new Float64Array(d);
  for (let row = 0; row < calibrationRows; row++) {
    for (let k = 0; k < d; k++) mean[k]! += calibration[row * d + k]! ** 2 / calibrationRows;
  }
  return mean;
}

/** `count` distinct positions of 0 … d−1, ascending, in proportion to their weight; those of weight 0 after all others. */
export function drawn(
  d: number,
  count: number,
  weight: (position: number) => number,
  seed: number | string,
  name: string,
) {
  const { unit } = random(seed, `importance/${name}`);
  return smallest(d, count, (position) => -Math.log(1 - unit()) / Math.max(weight(position), 1e-300));
}

/** The positions by each entry's own mean square. */
export function drawnByMeanSquare(setting: Setting, count: number): Uint32Array {
  const mean = meanSquares(setting);
  return drawn(setting.layer.d, count, (position) => mean[position]!, setting.seed, setting.layer.name);
}

/** The positions by the factored estimate, which needs no vector of size d: what the product's `importance` compressor keeps. */
export function drawnByFactors({ layer, factored, seed }: Setting, count: number): Uint32Array {
  if (!factored) {
    throw new Error(
      `layer ${layer.name}: expected the factored mean squares of a model, got none; factored importance needs the model itself`,
    );
  }
  return drawn(layer.d, count, factored, seed, layer.name);
}

export const importance: Compressor = {
  name: "importance dropout",
  needs: "calibration",
  projection: (setting) => keeping(drawnByMeanSquare(setting, setting.r), setting.layer.d),
};

export const factoredImportance: Compressor = {
  name: "factored importance dropout",
  needs: "calibration",
  projection: (setting) => keeping(drawnByFactors(setting, setting.r), setting.layer.d),
};
