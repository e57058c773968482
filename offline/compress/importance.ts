/**
 * Factored importance dropout: a layer's coordinates are drawn without replacement in proportion to the estimated mean square of
 * their gradient, Σ over uses of E[x_p²]·E[δ_q²], from two small vectors a use. The drawn entries are not rescaled.
 */
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";
import type { PerExample } from "../autodiff/per-example.ts";
import { keyedMask } from "./select.ts";

/** Sums of squares from a calibration batch, stored with the mask. */
export interface Calibration {
  /** n. */
  examples: number;
  /** By parameter, one entry a use: Σx², Σδ², N (see `Factors`). */
  sums: Record<string, { x: number[]; d: number[]; count: number }[]>;
}

/** Weighted sampling without replacement (Efraimidis and Spirakis, 2006): the r smallest −ln(u)/w. */
export function importanceMask(
  layers: readonly Layer[],
  r: readonly number[],
  seed: number | string,
  gradients: ReadonlyMap<string, PerExample>,
  calibration: Calibration,
): MaskBlock[] {
  return keyedMask(layers, r, (parameter) => {
    const weight = weightOf(parameter, gradients, calibration);
    const generator = random(seed, `importance/${parameter}`);
    return (position) => -Math.log(1 - generator.unit()) / weight(position);
  });
}

/** The estimated mean square of the gradient's entry at a position. */
export function weightOf(
  parameter: string,
  gradients: ReadonlyMap<string, PerExample>,
  { examples, sums }: Calibration,
): (position: number) => number {
  const uses = gradients.get(parameter)?.factors ?? [];
  const given = sums[parameter];
  if (
    given?.length !== uses.length ||
    given.some(({ x, d }, use) => x.length !== uses[use]?.sizes[0] || d.length !== uses[use]?.sizes[1])
  ) {
    throw new Error(
      `calibration: expected ${uses.length} pairs of sums for parameter ${parameter}, of the model's sizes, got others; calibrate this model again`,
    );
  }
  const pairs = uses.map((use, index) => ({ rows: use.rows, ...(given[index] ?? { x: [], d: [], count: 1 }) }));
  // An entry that the calibration batch never reached can still be drawn, after all others.
  const least = Number.MIN_VALUE / Number.EPSILON;
  return (position) =>
    pairs.reduce((sum, { rows, x, d, count }) => {
      const [p, q] = rows(position);
      return sum + ((x[p] ?? 0) * (d[q] ?? 0)) / (examples * count);
    }, least);
}
