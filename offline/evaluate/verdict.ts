/** The questions that the results are to answer, as tables made from them: no figure in them is written by hand. */
import type { Results } from "./experiment.ts";
import { markdown, type Spread, type Summary, spread, spreadOf, summarised } from "./table.ts";

const signed = (value: number) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

/** What is cheaper than the projections of all d coordinates, by name as in the results. */
const CHEAP = [
  "dropout",
  "factored importance dropout",
  "factored importance 8r, then SJLT",
  "LoGra, PCA start",
  "eigenbasis dropout",
];
const RIVALS = ["SJLT", "Gaussian"];

/** Differences of cheap compressors from the better of SJLT and Gaussian, seed by seed: mean ± deviation. */
function against(results: Results, figure: string, chosen: (of: Record<string, string | number>) => string | null) {
  const groups = new Map<string, Map<number, Map<string, number>>>();
  for (const { of, seed, values } of results.measurements) {
    const compressor = chosen(of);
    const value = values[figure];
    if (compressor === null || value === null || value === undefined) continue;
    const key = JSON.stringify([of.task, of.R ?? null]);
    const seeds = groups.get(key) ?? new Map<number, Map<string, number>>();
    const found = seeds.get(seed) ?? new Map<string, number>();
    groups.set(key, seeds.set(seed, found.set(compressor, value)));
  }
  return (key: string, compressor: string): Spread | null => {
    const differences = [...(groups.get(key)?.values() ?? [])].flatMap((found) => {
      const own = found.get(compressor);
      const rivals = RIVALS.flatMap((rival) => found.get(rival) ?? []);
      return own === undefined || rivals.length < RIVALS.length ? [] : [own - Math.max(...rivals)];
    });
    return differences.length === 0 ? null : spreadOf(differences);
  };
}

const shown = (difference: Spread | null) =>
  difference === null
    ? "–"
    : `${signed(difference.mean)}${difference.count > 1 ? ` ± ${difference.deviation.toFixed(3)}` : ""}`;

/** Does a cheap compressor beat SJLT and Gaussian in Spearman and LDS, and come within 0.03 in top-10 overlap? */
export function cheapAgainstDense(agreement: Results, lds: Results | null): string {
  const compared = (of: Record<string, string | number>) =>
    of.damping === "default" && of.compared === "exact" ? String(of.compressor) : null;
  const figures = ["spearman", "top-10 helpful", "top-10 harmful"];
  const tables = figures.map((figure) => against(agreement, figure, compared));
  const scores =
    lds && against(lds, "LDS", (of) => (of.damping === "chosen" ? String(of.method).replace(/, R = \d+$/, "") : null));
  const rows = new Map(agreement.measurements.map(({ of }) => [JSON.stringify([of.task, of.R ?? null]), of] as const));
  const lines = [...rows].flatMap(([key, of]) =>
    CHEAP.map((compressor) => [
      String(of.task),
      String(of.R),
      compressor,
      ...tables.map((table) => shown(table(key, compressor))),
      shown(scores?.(JSON.stringify([of.task, null]), compressor) ?? null),
    ]),
  );
  return markdown(["task", "R", "compressor", ...figures, "LDS (at its own R)"], lines, 3);
}

/** Is dropout's AUC within 0.02 of the exact one? */
export function dropoutAgainstExact(mislabeled: Results): string {
  const summaries: Summary[] = summarised(mislabeled.measurements);
  const tasks = [...new Set(summaries.map(({ of }) => String(of.task)))];
  const value = (task: string, method: RegExp, figure: string) =>
    summaries.find(({ of }) => of.task === task && of.damping === "default" && method.test(String(of.method)))?.values[
      figure
    ];
  const figures = ["AUC", "AUC of self-influence"];
  const lines = tasks.flatMap((task) =>
    figures.flatMap((figure) => {
      const exact = value(task, /^exact$/, figure);
      const dropout = value(task, /^dropout, R/, figure);
      const factored = value(task, /^factored importance dropout/, figure);
      if (!exact || !dropout || !factored) return [];
      const difference = dropout.mean - exact.mean;
      const verdict = difference >= -0.02 ? "yes" : "no";
      return [[task, figure, verdict, spread(exact), spread(dropout), spread(factored), signed(difference)]];
    }),
  );
  const head = ["task", "figure", "within 0.02", "exact", "dropout", "factored importance dropout", "dropout − exact"];
  return markdown(head, lines, 3);
}
