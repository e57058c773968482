import { median } from "../evaluate/statistics.ts";

/** One measured figure. `goal` is null where none is set; `holds` says whether the value meets it. */
export interface Figure {
  name: string;
  value: number;
  unit: string;
  goal: number | null;
  holds: boolean | null;
}

/** A figure whose goal is an upper limit (or none). */
export function atMost(name: string, value: number, unit: string, goal: number | null = null): Figure {
  return { name, value, unit, goal, holds: goal === null ? null : value <= goal };
}

/** A figure whose goal is a lower limit. */
export function atLeast(name: string, value: number, unit: string, goal: number): Figure {
  return { name, value, unit, goal, holds: value >= goal };
}

/** The median over interleaved rounds of one measurement ÷ another's of the same round. */
export const quotient = (of: readonly number[] = [], by: readonly number[] = []): number =>
  median(of.map((value, round) => value / (by[round] ?? Number.NaN)));
