import { expect, test } from "vitest";
import type { Measurement, Results } from "../../offline/evaluate/experiment.ts";
import { cheapAgainstDense, dropoutAgainstExact } from "../../offline/evaluate/verdict.ts";

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
  expect(cells(table.split("\n")[2])).toEqual(["t", "AUC", "no", "0.900", "0.870", "0.895", "−0.030"]);
});
