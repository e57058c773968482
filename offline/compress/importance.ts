/**
 * Factored importance dropout: a layer's coordinates are drawn without replacement in proportion to the estimated mean square of
 * their gradient, Σ over uses of E[x_p²]·E[δ_q²], from two small vectors a use. The drawn entries are not rescaled.
 */
import { type Layer, type MaskBlock, type Parameter, sizeOf } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";
import type { Entries, PerExample } from "../autodiff/per-example.ts";
import { firstArrivals } from "./race.ts";
import { type Candidate, keyedMask, smallestOf } from "./select.ts";

/** Sums of squares from a calibration batch, stored with the mask. */
export interface Calibration {
  /** n. */
  examples: number;
  /** By parameter, one entry a use: Σx², Σδ², N (see `Factors`). */
  sums: Record<string, { x: number[]; d: number[]; count: number }[]>;
}

/** Entries that the calibration batch never reached are kept only where all others are. */
export function importanceMask(
  layers: readonly Layer[],
  r: readonly number[],
  seed: number | string,
  gradients: ReadonlyMap<string, PerExample>,
  calibration: Calibration,
): MaskBlock[] {
  const parameters = new Map(layers.flatMap((layer) => layer.parameters).map((p) => [p.name, p]));
  return keyedMask(layers, r, seed, (name, count) => {
    const parameter = parameters.get(name) ?? { name, shape: [] };
    const measures = measuresOf(name, gradients, calibration);
    const races = measures.flatMap(({ x, d, entries }, use) =>
      entries ? [firstArrivals({ x, d, entries }, count, random(seed, `importance/${name}/${use}`))] : [],
    );
    return races.length === measures.length ? earliest(races) : scanned(parameter, measures, count, seed);
  });
}

/** Each position at its earliest time. */
function earliest(races: readonly Candidate[][]): Candidate[] {
  const [only = []] = races;
  if (races.length === 1) return only;
  const times = new Map<number, number>();
  for (const { position, key } of races.flat()) times.set(position, Math.min(key, times.get(position) ?? key));
  return Array.from(times, ([position, key]) => ({ position, key }));
}

/** The same law entry by entry, for a parameter whose entries cannot be found from their factors. */
function scanned({ name, shape }: Parameter, measures: Measure[], r: number, seed: number | string): Candidate[] {
  const weight = sumOf(measures);
  const { unit } = random(seed, `importance/${name}`);
  const d = sizeOf({ name, shape });
  const key = (position: number) => -Math.log(1 - unit()) / weight(position);
  return smallestOf(d, Math.min(d, r), key).filter((candidate) => Number.isFinite(candidate.key));
}

interface Measure {
  /** Σx² ÷ (n·N). */
  x: Float64Array;
  d: ArrayLike<number>;
  rows: (position: number) => [number, number];
  entries: Entries | null;
}

function measuresOf(
  parameter: string,
  gradients: ReadonlyMap<string, PerExample>,
  { examples, sums }: Calibration,
): Measure[] {
  const uses = gradients.get(parameter)?.factors ?? [];
  const given = sums[parameter] ?? [];
  return uses.map(({ rows, sizes, entries }, use) => {
    const { x, d, count } = given[use] ?? { x: [], d: [], count: 1 };
    if (given.length !== uses.length || x.length !== sizes[0] || d.length !== sizes[1]) {
      throw new Error(
        `calibration: expected ${uses.length} pairs of sums for parameter ${parameter}, of the model's sizes, got others; calibrate this model again`,
      );
    }
    return { x: Float64Array.from(x, (sum) => sum / (examples * count)), d, rows, entries };
  });
}

const sumOf =
  (measures: readonly Measure[]) =>
  (position: number): number =>
    measures.reduce((sum, { rows, x, d }) => {
      const [p, q] = rows(position);
      return sum + (x[p] ?? 0) * (d[q] ?? 0);
    }, 0);

/** The estimated mean square of the gradient's entry at a position. */
export const weightOf = (
  parameter: string,
  gradients: ReadonlyMap<string, PerExample>,
  calibration: Calibration,
): ((position: number) => number) => sumOf(measuresOf(parameter, gradients, calibration));
