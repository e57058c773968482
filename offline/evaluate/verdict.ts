/** The questions that the results are to answer, as tables made from them: no figure in them is written by hand. */
import * as z from "zod";
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

/** The compressor of an LDS with damping chosen for it. */
const scored = (of: Record<string, string | number>) =>
  of.damping === "chosen" ? String(of.method).replace(/, R = \d+$/, "") : null;

const shown = (difference: Spread | null) =>
  difference === null
    ? "–"
    : `${signed(difference.mean)}${difference.count > 1 ? ` ± ${difference.deviation.toFixed(3)}` : ""}`;

/** What a cheap compressor may cost inside the graph, in units of uniform dropout's seconds, and lose in top-10 overlap. */
const [COST, LOSS] = [2, 0.03];

/** Least mean difference over all tasks and R, and where it is. */
function worst(table: ReturnType<typeof against>, keys: readonly string[], compressor: string) {
  const found = keys.flatMap((key) => {
    const difference = table(key, compressor);
    return difference ? [{ key, mean: difference.mean }] : [];
  });
  return found.reduce<(typeof found)[number] | null>(
    (least, one) => (least && least.mean <= one.mean ? least : one),
    null,
  );
}

/** Seconds inside the graph in units of uniform dropout's at the same r: [least, most]; null where it was not timed. */
function costOf(cost: Results | null, compressor: string): [number, number] | null {
  const timed = new Map(
    (cost?.measurements ?? [])
      .filter(({ of }) => of.kind === "in the graph")
      .map(({ of, values }) => [String(of.what), values.seconds] as const),
  );
  // A mask by importance is gathered as a uniform one is.
  const name = compressor === "factored importance dropout" ? "dropout" : compressor.replace(", PCA start", "");
  const ratios = [...timed].flatMap(([what, seconds]) => {
    const [, r] = /^dropout, r = (\d+)$/.exec(what) ?? [];
    const own = timed.get(`${name}, r = ${r}`);
    return r && own && seconds ? [own / seconds] : [];
  });
  return ratios.length > 0 ? [Math.min(...ratios), Math.max(...ratios)] : null;
}

/** Which of the demands hold on every task, at every R: the worst case of each. */
export function demandsOnCheap(agreement: Results, lds: Results | null, cost: Results | null): string {
  const compared = (of: Record<string, string | number>) =>
    of.damping === "default" && of.compared === "exact" ? String(of.compressor) : null;
  const keysOf = (results: Results | null) => [
    ...new Set((results?.measurements ?? []).map(({ of }) => JSON.stringify([of.task, of.R ?? null]))),
  ];
  const table = (figure: string) => against(agreement, figure, compared);
  const demands = [
    { name: "Spearman", table: table("spearman"), keys: keysOf(agreement), least: 0 },
    { name: "LDS", table: lds && against(lds, "LDS", scored), keys: keysOf(lds), least: 0 },
    { name: "top-10 helpful", table: table("top-10 helpful"), keys: keysOf(agreement), least: -LOSS },
    { name: "top-10 harmful", table: table("top-10 harmful"), keys: keysOf(agreement), least: -LOSS },
  ];
  const lines = CHEAP.map((compressor) => {
    const found = demands.map(({ table: differences, keys }) => differences && worst(differences, keys, compressor));
    const times = costOf(cost, compressor);
    const broken = demands.flatMap(({ name, least }, at) => {
      const own = found[at];
      return own && own.mean < least ? [name] : [];
    });
    if (times && times[1] > COST) broken.push(`cost above ${COST} at some r`);
    const cells = found.map((one) => {
      if (!one) return "–";
      const [task, R] = z.tuple([z.string(), z.number().nullable()]).parse(JSON.parse(one.key));
      return `${signed(one.mean)} (${task.split(",")[0]}${R === null ? "" : `, ${R}`})`;
    });
    const priced = times ? `${times[0].toFixed(2)} to ${times[1].toFixed(2)}` : "not timed";
    return [compressor, ...cells, priced, broken.length === 0 ? "all" : `not ${broken.join(", ")}`];
  });
  const head = ["compressor", ...demands.map(({ name }) => `${name}, worst`), "cost / dropout's", "holds"];
  return markdown(head, lines, 1);
}

/** Does a cheap compressor beat SJLT and Gaussian in Spearman and LDS, and come within 0.03 in top-10 overlap? */
export function cheapAgainstDense(agreement: Results, lds: Results | null): string {
  const compared = (of: Record<string, string | number>) =>
    of.damping === "default" && of.compared === "exact" ? String(of.compressor) : null;
  const figures = ["spearman", "top-10 helpful", "top-10 harmful"];
  const tables = figures.map((figure) => against(agreement, figure, compared));
  const scores = lds && against(lds, "LDS", scored);
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

/** Is the AUC within 0.02 of the exact one? Differences of means, "(no)" behind those that are further below. */
export function dropoutAgainstExact(mislabeled: Results): string {
  const summaries: Summary[] = summarised(mislabeled.measurements);
  const tasks = [...new Set(summaries.map(({ of }) => String(of.task)))];
  const value = (task: string, method: RegExp, figure: string) =>
    summaries.find(({ of }) => of.task === task && of.damping === "default" && method.test(String(of.method)))?.values[
      figure
    ];
  const figures = ["AUC", "AUC of self-influence"];
  const kinds = ["dropout", "factored importance dropout", "eigenbasis dropout", "SJLT", "Gaussian"];
  const lines = tasks.flatMap((task) =>
    figures.flatMap((figure) => {
      const exact = value(task, /^exact$/, figure);
      if (!exact) return [];
      const cells = kinds.map((kind) => {
        const own = value(task, new RegExp(`^${kind}, R`), figure);
        if (!own) return "–";
        const difference = own.mean - exact.mean;
        return `${signed(difference)}${difference >= -0.02 ? "" : " (no)"}`;
      });
      return [[task, figure, spread(exact), ...cells]];
    }),
  );
  return markdown(["task", "figure", "exact", ...kinds], lines, 2);
}
