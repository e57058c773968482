/** All seven experiments, at their smallest, by the command that users type; then the report. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const NAMES = ["agreement", "mislabeled", "size", "cost", "lds", "retraining", "cross-source"];

test("`influence evaluate all --smoke` runs to the end, each with a table, a plot and results", {
  timeout: 300_000,
}, () => {
  const runs = mkdtempSync(join(tmpdir(), "evaluate-"));
  const influence = (...command: string[]) =>
    execFileSync(process.execPath, ["offline/command/cli.ts", "evaluate", ...command], {
      encoding: "utf8",
      stdio: "pipe",
    });
  influence("all", "--smoke", "--out", runs);
  for (const name of NAMES) {
    for (const file of ["results.json", "table.md", "plot.svg"]) {
      expect(existsSync(join(runs, name, file)), `${name}/${file}`).toBe(true);
    }
  }
  const report = join(runs, "RESULTS.md");
  influence("report", "--out", runs, "--to", report);
  for (const name of NAMES) expect(readFileSync(report, "utf8")).toContain(`## ${name}: `);
  rmSync(runs, { recursive: true });
});
