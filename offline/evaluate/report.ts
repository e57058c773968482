/** RESULTS.md: a table for every experiment that has results, with what it was measured on and how long that took. */
import { join } from "node:path";
import { readResults } from "./experiment.ts";
import { REPORT_TABLES } from "./report-tables.ts";
import { pivotOf, summarised, tableOf } from "./table.ts";
import { cheapAgainstDense, demandsOnCheap, dropoutAgainstExact } from "./verdict.ts";

/**
 * Sections of `remarks` (Markdown, one `## name` an experiment; `## cheap`, `## cheap-in-full` and `## auc` go with the verdicts, and what
 * stands before the first is for the whole) say what the figures mean; tables and the line above them are written from the
 * result files under `runs`.
 */
export function reportOf(runs: string, names: readonly string[], remarks: string): string {
  const [head = "", ...sections] = remarks.split(/^## /m);
  const remark = (name: string) =>
    sections.find((section) => section.startsWith(`${name}\n`))?.slice(name.length) ?? "";
  const parts = names.flatMap((name) => {
    const results = readResults(join(runs, name));
    if (!results) return [];
    const { title, machine, settings, seconds, date, measurements } = results;
    const given = Object.entries(settings).map(([key, value]) => `${key} ${value}`);
    return [
      `## ${name}: ${title}`,
      `${date}, ${machine.processor}, ${machine.threads} threads, Node ${machine.node}: ${Math.round(seconds)} s. Settings: ${given.join("; ")}.`,
      remark(name).trim(),
      ...(REPORT_TABLES[name]?.map((pivot) => pivotOf(summarised(measurements), pivot)) ?? [
        tableOf(summarised(measurements)),
      ]),
    ].filter((part) => part !== "");
  });
  const [agreement, mislabeled, lds, cost] = ["agreement", "mislabeled", "lds", "cost"].map((name) =>
    readResults(join(runs, name)),
  );
  const minutes = names.reduce((sum, name) => sum + (readResults(join(runs, name))?.seconds ?? 0), 0) / 60;
  const verdicts = [
    `All experiments together took ${minutes.toFixed(0)} minutes.`,
    ...(agreement
      ? [
          remark("cheap").trim(),
          demandsOnCheap(agreement, lds ?? null, cost ?? null),
          remark("cheap-in-full").trim(),
          cheapAgainstDense(agreement, lds ?? null),
        ]
      : []),
    ...(mislabeled ? [remark("auc").trim(), dropoutAgainstExact(mislabeled)] : []),
  ].filter((part) => part !== "");
  return `${[head.trim(), ...verdicts, ...parts].join("\n\n")}\n`;
}
