import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Progress } from "../../offline/command/progress.ts";
import { type Experiment, readResults, runExperiment } from "../../offline/evaluate/experiment.ts";
import type { Measurement } from "../../offline/evaluate/measurement.ts";
import { plotOf } from "../../offline/evaluate/plot.ts";
import { reportOf } from "../../offline/evaluate/report.ts";
import { pivotOf, summarised, tableOf } from "../../offline/evaluate/table.ts";

const silent: Progress = { step: () => ({ advance: () => {}, done: () => {} }), skipped: () => {}, note: () => {} };
const plot = { x: "R", y: "AUC", line: "method", facet: "task", logarithmic: true, label: "AUC" };
const of = { task: "digits", method: "<dropout>", R: 4 };
const measured = (seed: number, AUC: number | null): Measurement => ({ of, seed, values: { AUC } });

describe("an experiment", () => {
  test("goes on where it stopped, and measures nothing twice", async () => {
    const runs = mkdtempSync(join(tmpdir(), "evaluate-"));
    const done: string[] = [];
    let broken = true;
    const experiment: Experiment = {
      name: "toy",
      title: "A toy",
      settings: { n: 3 },
      plot,
      units: ["a", "b"].map((name, index) => ({
        name,
        measure: async () => {
          if (name === "b" && broken) throw new Error("interrupted");
          done.push(name);
          return [measured(index, 0.5 + index)];
        },
      })),
    };
    await expect(runExperiment(runs, experiment, silent)).rejects.toThrow("interrupted");
    expect(existsSync(join(runs, "toy", "results.json"))).toBe(false);
    broken = false;
    await runExperiment(runs, experiment, silent);
    expect(done).toEqual(["a", "b"]);
    await runExperiment(runs, experiment, silent);
    expect(done).toEqual(["a", "b"]);

    expect(readResults(join(runs, "toy"))?.measurements).toEqual([measured(0, 0.5), measured(1, 1.5)]);
    expect(readFileSync(join(runs, "toy", "table.md"), "utf8")).toContain("1.000 ± 0.707");
    expect(readFileSync(join(runs, "toy", "plot.svg"), "utf8")).toMatch(/^<svg .*xmlns/);
    const report = reportOf(runs, ["toy", "missing"], "# Results\n\nOf toys.\n\n## toy\n\nIt plays.\n");
    expect(report).toMatch(
      /^# Results\n\nOf toys\.\n\nAll experiments together took 0 minutes\.\n\n## toy: A toy\n\n.* s\. Settings: n 3\.\n\nIt plays\.\n\n\| task/,
    );

    const changed = { ...experiment, settings: { n: 4 } };
    await expect(runExperiment(runs, changed, silent)).rejects.toThrow(/other settings \(n: 3 → 4\); pass --replace/);
    await runExperiment(runs, changed, silent, true);
    expect(done).toEqual(["a", "b", "a", "b"]);
    rmSync(runs, { recursive: true });
  });
});

describe("a table", () => {
  test("one row for what was measured, mean ± standard deviation (n − 1) over seeds; what does not exist is left out", () => {
    const [summary] = summarised([measured(1, 0.5), measured(2, 0.7), measured(3, null)]);
    expect(summary?.values.AUC?.mean).toBeCloseTo(0.6, 12);
    expect(summary?.values.AUC?.deviation).toBeCloseTo(Math.SQRT2 / 10, 12);
    expect(summary?.values.AUC?.count).toBe(2);
    expect(tableOf([summary!]).split("\n").at(-1)).toBe("| digits | <dropout> | 4   | 0.600 ± 0.141 |");
  });
});

describe("a pivot", () => {
  test("one line for each value of a key, the others across, dashes where nothing was measured", () => {
    const summaries = summarised([
      measured(1, 0.5),
      { ...measured(1, 0.25), of: { ...of, R: 16 } },
      { ...measured(1, 0.75), of: { ...of, method: "none", R: 16 } },
    ]);
    const pivot = { caption: "AUC", rows: "method", columns: ["R"], value: "AUC", split: "task" };
    expect(pivotOf(summaries, pivot).split("\n")).toEqual([
      "**AUC: digits**",
      "",
      "| method    |     4 |    16 |",
      "| --------- | ----: | ----: |",
      "| <dropout> | 0.500 | 0.250 |",
      "| none      |     – | 0.750 |",
    ]);
  });
});

describe("a plot", () => {
  test("is one SVG document whose names are escaped", () => {
    const points = [4, 16].flatMap((R) => summarised([{ ...measured(1, 0.5), of: { ...of, R } }]));
    const svg = plotOf(points, plot);
    expect(svg).toContain("&lt;dropout>");
    expect(svg.match(/<circle/g)?.length).toBe(3);
    expect(svg.trim().endsWith("</svg>")).toBe(true);
  });
});
