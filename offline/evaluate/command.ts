/** `influence evaluate`: the paper's comparisons, each an experiment with a folder of its own under runs/evaluate. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { positiveInteger } from "../command/arguments.ts";
import { progressTo } from "../command/progress.ts";

/** In the order in which `all` runs them. What they need is loaded when one is asked for. */
const EXPERIMENTS = {
  agreement: "per query, agreement with exact influence by compressor, R and damping",
  mislabeled: "finding 20 % flipped labels: AUC",
  size: "R from 1 to 4,096: best, worst and mean over draws",
  cost: "seconds to compress and to precondition",
  lds: "linear datamodeling score, by retraining on random halves",
  retraining: "retraining without, or with only, the most influential examples",
  "cross-source": "do the most helpful passages come from the query's own source?",
};

interface EvaluateOptions {
  out?: string;
  replace?: boolean;
  smoke?: boolean;
  runs?: number;
  json?: boolean;
}

/** Adds `evaluate` and its subcommands to the program. */
export function addEvaluate(program: Command): void {
  const evaluate = program
    .command("evaluate")
    .description(
      "does it find what it claims? The paper's experiments, with every baseline, at a size two cores can do",
    );
  const experiment = (name: string, description: string) =>
    evaluate
      .command(name)
      .description(description)
      .option("--smoke", "the smallest size, to see that it runs")
      .option("--runs <n>", "seeds", positiveInteger)
      .option("--out <folder>", "where results go (default: runs/evaluate, or runs/evaluate-smoke)")
      .option("--replace", "measure anew what was measured with other settings")
      .option("--json", "progress as JSON events, the table as JSON");
  const run = async (names: readonly string[], options: EvaluateOptions) => {
    const progress = progressTo(options.json ? "json" : process.stderr.isTTY ? "terminal" : "lines");
    const [{ runExperiment }, sizes, { tableOf }] = await Promise.all([
      import("./experiment.ts"),
      import("./sizes.ts"),
      import("./table.ts"),
    ]);
    for (const name of names) {
      const made = sizes.EXPERIMENTS[name]?.(options.smoke ? "smoke" : "reduced", options.runs);
      if (!made) throw new Error(`evaluate: expected one of ${Object.keys(EXPERIMENTS).join(", ")}, got ${name}`);
      const folder = resolve(options.out ?? join("runs", options.smoke ? "evaluate-smoke" : "evaluate"));
      const summaries = await runExperiment(folder, made, progress, options.replace);
      console.log(options.json ? JSON.stringify({ name, summaries }) : `\n${made.title}\n\n${tableOf(summaries)}\n`);
    }
  };
  for (const [name, description] of Object.entries(EXPERIMENTS)) {
    experiment(name, description).action((options: EvaluateOptions) => run([name], options));
  }
  experiment("all", "every experiment, one after another; what is finished is kept").action(
    (options: EvaluateOptions) => run(Object.keys(EXPERIMENTS), options),
  );
  evaluate
    .command("report")
    .description("write RESULTS.md from the results there are")
    .option("--out <folder>", "where the results are", join("runs", "evaluate"))
    .option("--to <file>", "the report", join("offline", "evaluate", "RESULTS.md"))
    .action(async ({ out, to }: { out: string; to: string }) => {
      const { reportOf } = await import("./report.ts");
      const remarks = join(import.meta.dirname, "remarks.md");
      writeFileSync(to, reportOf(resolve(out), Object.keys(EXPERIMENTS), readFileSync(remarks, "utf8")));
      console.log(to);
    });
}
