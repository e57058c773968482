/** Measurements of several seeds as one row each: mean ± standard deviation. */
import type { Measurement } from "./measurement.ts";
import { mean } from "./statistics.ts";

export interface Spread {
  mean: number;
  /** Over seeds, with n − 1; 0 for one seed. */
  deviation: number;
  least: number;
  most: number;
  count: number;
}

export interface Summary {
  of: Measurement["of"];
  values: Record<string, Spread>;
}

/** Groups by what was measured, in order of first appearance. */
export function summarised(measurements: readonly Measurement[]): Summary[] {
  const groups = new Map<string, Measurement[]>();
  for (const measurement of measurements) {
    const key = JSON.stringify(measurement.of);
    groups.set(key, [...(groups.get(key) ?? []), measurement]);
  }
  return [...groups.values()].map((group) => {
    const names = new Set(group.flatMap(({ values }) => Object.keys(values)));
    const values = [...names].flatMap((name) => {
      const found = group.flatMap(({ values }) => values[name] ?? []);
      return found.length === 0 ? [] : [[name, spreadOf(found)] as const];
    });
    return { of: group[0]?.of ?? {}, values: Object.fromEntries(values) };
  });
}

export function spreadOf(values: readonly number[]): Spread {
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  const deviation = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
  return { mean: centre, deviation, least: Math.min(...values), most: Math.max(...values), count: values.length };
}

/** Three decimals below 10, three digits above. */
export const figure = (value: number): string =>
  Math.abs(value) >= 10 ? Number(value.toPrecision(3)).toString() : value.toFixed(3);

export const spread = ({ mean: centre, deviation, count }: Pick<Spread, "mean" | "deviation" | "count">): string =>
  count > 1 ? `${figure(centre)} ± ${figure(deviation)}` : figure(centre);

/** A Markdown table, its columns padded as the project's formatter pads them; the first `names` columns are text. */
export function markdown(head: readonly string[], rows: readonly (readonly string[])[], names: number): string {
  const width = head.map((cell, column) => Math.max(3, cell.length, ...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const padded = (cells: readonly string[]) =>
    line(cells.map((cell, at) => (at < names ? cell.padEnd(width[at] ?? 0) : cell.padStart(width[at] ?? 0))));
  const rule = width.map((size, at) => (at < names ? "-".repeat(size) : `${"-".repeat(size - 1)}:`));
  return [padded(head), line(rule), ...rows.map(padded)].join("\n");
}

/** Everything that was measured, a line each. */
export function tableOf(summaries: readonly Summary[]): string {
  const keys = [...new Set(summaries.flatMap(({ of }) => Object.keys(of)))];
  const names = [...new Set(summaries.flatMap(({ values }) => Object.keys(values)))];
  const rows = summaries.map(({ of, values }) => [
    ...keys.map((key) => String(of[key] ?? "")),
    ...names.map((name) => (values[name] ? spread(values[name]) : "–")),
  ]);
  return markdown([...keys, ...names], rows, keys.length);
}

export interface Pivot {
  caption: string;
  /** Keys of what was measured: one names the lines, the others together the columns. */
  rows: string;
  columns: readonly string[];
  value: string;
  /** One table for each value of this key. */
  split?: string;
  only?: (of: Measurement["of"]) => boolean;
}

/** One figure of many measurements, as a Markdown table with its caption above. Empty if nothing was measured. */
export function pivotOf(summaries: readonly Summary[], pivot: Pivot): string {
  const { caption, rows, columns, value, split, only } = pivot;
  const chosen = summaries.filter(({ of, values }) => values[value] && (!only || only(of)));
  if (split) {
    const parts = [...new Set(chosen.map(({ of }) => of[split]))];
    const { split: _, ...plain } = pivot;
    return parts
      .map((part) => {
        const own = (of: Measurement["of"]) => of[split] === part && (!only || only(of));
        return pivotOf(chosen, { ...plain, caption: `${caption}: ${part}`, only: own });
      })
      .join("\n\n");
  }
  const columnOf = (of: Measurement["of"]) => columns.map((key) => `${of[key] ?? ""}`).join(", ");
  const names = [...new Set(chosen.map(({ of }) => columnOf(of)))];
  const lines = [...new Set(chosen.map(({ of }) => of[rows]))];
  if (lines.length === 0) return "";
  const cell = (row: string | number | undefined, name: string) => {
    const found = chosen.find(({ of }) => of[rows] === row && columnOf(of) === name)?.values[value];
    return found ? spread(found) : "–";
  };
  const body = lines.map((row) => [String(row), ...names.map((name) => cell(row, name))]);
  return `**${caption}**\n\n${markdown([rows, ...names], body, 1)}`;
}
