import { expect, test } from "vitest";
import type { Results } from "../../offline/evaluate/experiment.ts";
import type { Measurement } from "../../offline/evaluate/measurement.ts";
import { cheapAgainstDense, demandsOnCheap, dropoutAgainstExact } from "../../offline/evaluate/verdict.ts";

const cells = (line = "") =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());

const resultsOf = (measurements: Measurement[]): Results => ({
  name: "toy",
  title: "",
  settings: {},
  machine: { processor: "", threads: 2, node: "" },
  date: "",
  seconds: 1,
  measurements,
});

test("cheap against dense: the difference from the better rival, seed by seed", () => {
  const measured = (compressor: string, seed: number, spearman: number): Measurement => ({
    of: { task: "t", compressor, R: 4, damping: "default", compared: "exact" },
    seed,
    values: { spearman, "top-10 helpful": 0.5, "top-10 harmful": 0.5 },
  });
  const agreement = resultsOf([
    ...[1, 2].flatMap((seed) => [measured("SJLT", seed, 0.5), measured("Gaussian", seed, 0.4 + 0.1 * seed)]),
    measured("dropout", 1, 0.3),
    measured("dropout", 2, 0.4),
  ]);
  // Best rival .5 and .6: −.2 and −.2.
  expect(cells(cheapAgainstDense(agreement, null).split("\n")[2])).toEqual([
    "t",
    "4",
    "dropout",
    "−0.200 ± 0.000",
    "+0.000 ± 0.000",
    "+0.000 ± 0.000",
    "–",
  ]);
});

test("demands: the worst case of each over tasks and sizes, and the cost", () => {
  const values = (top10: number, spearman: number) => ({
    spearman,
    "top-10 helpful": top10,
    "top-10 harmful": top10,
  });
  const measured = (task: string, compressor: string, top10: number, spearman: number): Measurement => ({
    of: { task, compressor, R: 4, damping: "default", compared: "exact" },
    seed: 1,
    values: values(top10, spearman),
  });
  const both = (task: string) => [measured(task, "SJLT", 0.5, 0.5), measured(task, "Gaussian", 0.4, 0.6)];
  const agreement = resultsOf([
    ...both("a, digits"),
    ...both("b"),
    measured("a, digits", "eigenbasis dropout", 0.48, 0.7),
    measured("b", "eigenbasis dropout", 0.6, 0.8),
    measured("a, digits", "dropout", 0.5, 0.5),
    measured("b", "dropout", 0.5, 0.7),
  ]);
  const timed = (what: string, seconds: number): Measurement => ({
    of: { what, kind: "in the graph", n: 1, d: 4 },
    seed: 1,
    values: { seconds },
  });
  const cost = resultsOf([
    timed("dropout, r = 4", 1),
    timed("eigenbasis dropout, r = 4", 1.5),
    timed("dropout, r = 8", 2),
    timed("eigenbasis dropout, r = 8", 4.2),
  ]);
  const lines = demandsOnCheap(agreement, null, cost).split("\n").map(cells);
  expect(lines.find(([name]) => name === "eigenbasis dropout")).toEqual([
    "eigenbasis dropout",
    "+0.100 (a, 4)",
    "–",
    "−0.020 (a, 4)",
    "−0.020 (a, 4)",
    "1.50 to 2.10",
    "not cost above 2 at some r",
  ]);
  expect(lines.find(([name]) => name === "dropout")).toEqual([
    "dropout",
    "−0.100 (a, 4)",
    "–",
    "+0.000 (a, 4)",
    "+0.000 (a, 4)",
    "1.00 to 1.00",
    "not Spearman",
  ]);
});

test("dropout against exact: the difference, and whether it is within 0.02", () => {
  const measured = (method: string, AUC: number): Measurement => ({
    of: { task: "t", method, damping: "default" },
    seed: 1,
    values: { AUC },
  });
  const table = dropoutAgainstExact(
    resultsOf([
      measured("exact", 0.9),
      measured("dropout, R = 5", 0.87),
      measured("factored importance dropout, R = 5", 0.895),
    ]),
  );
  expect(cells(table.split("\n")[2])).toEqual(["t", "AUC", "0.900", "−0.030 (no)", "−0.005", "–", "–", "–"]);
});
