/** `size`: what more kept numbers buy, and how much chance decides: R from 1 to 4,096, best, worst and mean over runs (Fig. 2). */
import type { Experiment, Measurement } from "../experiment.ts";
import { agreementOf, compressedLayers, compressedScores, exactScores, kernelsOf } from "../score.ts";
import { areaUnderCurve } from "../statistics.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare } from "../tasks/prepare.ts";

export interface SizeSize {
  task: TaskName;
  n: number;
  m: number;
  totals: number[];
  /** Masks drawn at each size. */
  draws: number;
}

const COMPARED = ["dropout", "Gaussian", "factored importance dropout", "eigenbasis dropout"];

export function size({ task, n, m, totals, draws }: SizeSize): Experiment {
  return {
    name: "size",
    title: "Compressed size: best, worst and mean over draws",
    settings: { task, n, m, totals: totals.join(), draws },
    units: [{ name: `${task}`, measure: () => measure(task, n, m, totals, draws) }],
    plot: {
      x: "R",
      y: "spearman",
      line: "compressor",
      facet: "task",
      logarithmic: true,
      label: "Spearman correlation with exact influence: mean, worst to best",
      bars: "range",
    },
  };
}

async function measure(name: TaskName, n: number, m: number, totals: number[], draws: number): Promise<Measurement[]> {
  const task = await TASKS[name]({ n, m, seed: 1, flip: 0.2 });
  const prepared = await prepare(task);
  const kernels = await kernelsOf(prepared);
  const exact = await exactScores(kernels, "default");
  const found: Measurement[] = [];
  for (const compressor of COMPARED) {
    for (const R of totals) {
      for (let seed = 1; seed <= draws; seed++) {
        const layers = await compressedLayers(prepared, compressor, R, seed);
        const { influence } = await compressedScores(prepared, layers, "default");
        // Influence is linear in the query: on the mean query it is the mean.
        const onMean = Float64Array.from({ length: n }, (_, i) => {
          let sum = 0;
          for (let query = 0; query < m; query++) sum += influence[query * n + i]!;
          return sum / m;
        });
        found.push({
          of: { task: task.name, compressor, R },
          seed,
          values: { ...agreementOf(influence, exact, n), AUC: areaUnderCurve(onMean, task.wrong ?? []) },
        });
      }
    }
  }
  return found;
}
