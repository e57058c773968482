/** `size`: what more kept numbers buy, and how much chance decides: R from 1 to 4,096, best, worst and mean over runs (Fig. 2). */
import { effectiveRank } from "../estimate/direct.ts";
import { type DampingRule, dampingFor, nameOfRule } from "../estimate/estimator.ts";
import type { Experiment } from "../experiment.ts";
import type { Measurement } from "../measurement.ts";
import { agreementOf, compressedLayers, compressedScores, exactScores, kernelsOf } from "../score.ts";
import { areaUnderCurve } from "../statistics.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare } from "../tasks/prepare.ts";

export interface SizeSize {
  tasks: TaskName[];
  n: number;
  m: number;
  totals: number[];
  /** Masks drawn at each size. */
  draws: number;
}

const COMPARED = ["dropout", "Gaussian", "factored importance dropout", "eigenbasis dropout"];

export function size({ tasks, n, m, totals, draws }: SizeSize): Experiment {
  return {
    name: "size",
    title: "Compressed size: best, worst and mean over draws",
    settings: { n, m, totals: totals.join(), draws },
    units: tasks.map((task) => ({ name: task, measure: () => measure(task, n, m, totals, draws) })),
    plot: {
      x: "R",
      y: "spearman",
      line: "compressor",
      facet: "task",
      logarithmic: true,
      label: "Spearman correlation with exact influence: mean, worst to best",
      bars: "range",
      only: (of) => of.damping === "default" && of.compressor !== "exact",
    },
  };
}

/** Queries whose rankings are compared; all are in the mean query. */
const RANKED = 30;
/** The product's damping, and one so strong that little of the inverse is left. */
const RULES: DampingRule[] = ["default", { trace: 0.1 }];

async function measure(name: TaskName, n: number, m: number, totals: number[], draws: number): Promise<Measurement[]> {
  const task = await TASKS[name]({ n, m, seed: 1, flip: 0.2 });
  const prepared = await prepare(task);
  const kernels = await kernelsOf(prepared);
  const exact = new Map<DampingRule, Float64Array>();
  for (const rule of RULES) exact.set(rule, await exactScores(kernels, rule));
  const ranked = (influence: Float64Array) => influence.subarray(0, Math.min(m, RANKED) * n);
  // Influence is linear in the query: on the mean query it is the mean.
  const auc = (influence: Float64Array) => {
    const onMean = new Float64Array(n);
    for (let k = 0; k < influence.length; k++) onMean[k % n]! += influence[k]!;
    return areaUnderCurve(onMean, task.wrong ?? []);
  };
  const found: Measurement[] = [];
  for (const rule of RULES) {
    const damping = nameOfRule(rule);
    const reference = exact.get(rule) ?? new Float64Array();
    const rank = kernels.reduce((sum, kernel) => sum + effectiveRank(kernel, dampingFor(kernel, rule)), 0);
    found.push({
      of: { task: task.name, compressor: "exact", R: kernels.reduce((sum, { width }) => sum + width, 0), damping },
      seed: 1,
      values: { AUC: auc(reference), "effective rank": rank },
    });
  }
  for (const compressor of COMPARED) {
    for (const R of totals) {
      for (let seed = 1; seed <= draws; seed++) {
        const layers = await compressedLayers(prepared, compressor, R, seed);
        for (const rule of RULES) {
          const reference = exact.get(rule) ?? new Float64Array();
          const { influence } = await compressedScores(prepared, layers, rule);
          const own = auc(influence);
          found.push({
            of: { task: task.name, compressor, R, damping: nameOfRule(rule) },
            seed,
            values: {
              ...agreementOf(ranked(influence), ranked(reference), n),
              AUC: own,
              "AUC − exact": own - auc(reference),
            },
          });
        }
      }
    }
  }
  return found;
}
