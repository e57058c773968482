/**
 * An experiment: units that are measured one by one and kept, each in a file of its own, so that an interrupted run goes on where
 * it stopped; then one table, one plot and one results file of all of them.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import type { Progress } from "../command/progress.ts";
import { beginStep, finishStep, type Settings } from "../command/step.ts";
import { type Measurement, measurement } from "./measurement.ts";
import { type PlotOptions, plotOf } from "./plot.ts";
import { THREADS } from "./product.ts";
import { type Summary, summarised, tableOf } from "./table.ts";

const unitSchema = z.object({ seconds: z.number(), measurements: z.array(measurement) });

export interface Unit {
  /** A file name. */
  name: string;
  measure(): Promise<Measurement[]>;
}

export interface Experiment {
  /** Also its folder's name. */
  name: string;
  title: string;
  /** What determines each unit's results beside its name and the code: changed, the run begins anew. */
  settings: Settings;
  units: Unit[];
  plot: PlotOptions;
}

const resultsSchema = z.object({
  name: z.string(),
  title: z.string(),
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  machine: z.object({ processor: z.string(), threads: z.number(), node: z.string() }),
  date: z.string(),
  /** Time measured in the units, all runs together. */
  seconds: z.number(),
  measurements: z.array(measurement),
});
export type Results = z.infer<typeof resultsSchema>;

/** The results of a finished experiment; null where there are none. */
export function readResults(folder: string): Results | null {
  const path = join(folder, "results.json");
  return existsSync(path) ? resultsSchema.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
}

/** Written aside and renamed: a file that is there is whole. */
function writeWhole(path: string, text: string): void {
  writeFileSync(`${path}.part`, text);
  renameSync(`${path}.part`, path);
}

/**
 * Measures what is not yet there, and writes results.json, table.md and plot.svg into `runs`/<name>. What was
 * measured with other settings is replaced if `replace`, else refused with what changed.
 */
export async function runExperiment(
  runs: string,
  experiment: Experiment,
  progress: Progress,
  replace = false,
): Promise<Summary[]> {
  let step = beginStep(runs, experiment.name, experiment.settings, replace);
  const { folder } = step;
  if (step.finished && experiment.units.every(({ name }) => existsSync(join(folder, `${name}.json`))))
    progress.skipped(experiment.name, "already measured");
  const bar = progress.step(experiment.name, experiment.units.length, "units");
  const measurements: Measurement[] = [];
  let seconds = 0;
  for (const unit of experiment.units) {
    const path = join(folder, `${unit.name}.json`);
    if (!existsSync(path)) {
      const started = performance.now();
      const measured = await unit.measure();
      writeWhole(path, JSON.stringify({ seconds: (performance.now() - started) / 1000, measurements: measured }));
    }
    const kept = unitSchema.parse(JSON.parse(readFileSync(path, "utf8")));
    measurements.push(...kept.measurements);
    seconds += kept.seconds;
    bar.advance(1);
  }
  const results: Results = {
    name: experiment.name,
    title: experiment.title,
    settings: experiment.settings,
    machine: { processor: cpus()[0]?.model ?? "unknown", threads: THREADS, node: process.version },
    date: new Date().toISOString().slice(0, 10),
    seconds,
    measurements,
  };
  const summaries = summarised(measurements);
  writeWhole(join(folder, "results.json"), `${JSON.stringify(results, null, 1)}\n`);
  writeWhole(join(folder, "table.md"), `${tableOf(summaries)}\n`);
  writeWhole(join(folder, "plot.svg"), plotOf(summaries, experiment.plot));
  step = finishStep(step);
  bar.done(`${step.folder}: results.json, table.md, plot.svg`);
  return summaries;
}
