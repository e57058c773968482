/** `mislabeled`: how well each method's influence on the mean test gradient, and on the example itself, finds flipped labels (Table 1). */
import { selfInfluence } from "../estimate/direct.ts";
import { type DampingRule, lambdaOf, nameOfRule, traceOf } from "../estimate/estimator.ts";
import type { Experiment } from "../experiment.ts";
import type { Measurement } from "../measurement.ts";
import { ALL_COMPRESSORS, ALL_ESTIMATORS, methodsFor } from "../methods.ts";
import { compressedLayers, compressedScores, kernelsOf, withMeanQuery } from "../score.ts";
import { areaUnderCurve } from "../statistics.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare } from "../tasks/prepare.ts";

export interface MislabeledSize {
  tasks: TaskName[];
  n: number;
  m: number;
  R: number;
  seeds: number[];
}

const RULES: DampingRule[] = ["default", "paper"];

export function mislabeled({ tasks, n, m, R, seeds }: MislabeledSize): Experiment {
  return {
    name: "mislabeled",
    title: "Finding 20 % flipped labels: area under the ROC curve",
    settings: { n, m, R },
    units: tasks.flatMap((task) =>
      seeds.map((seed) => ({ name: `${task}-${seed}`, measure: () => measure(task, n, m, R, seed) })),
    ),
    plot: {
      x: "method",
      y: "AUC",
      line: "damping",
      facet: "task",
      logarithmic: false,
      label: "AUC of the influence on the mean test gradient",
    },
  };
}

async function measure(name: TaskName, n: number, m: number, R: number, seed: number): Promise<Measurement[]> {
  const task = await TASKS[name]({ n, m, seed, flip: 0.2 });
  const prepared = withMeanQuery(await prepare(task));
  const wrong = task.wrong ?? [];
  const kernels = await kernelsOf(prepared);
  const found: Measurement[] = [];
  const add = (method: string, damping: string, values: Measurement["values"]) =>
    found.push({ of: { task: task.name, method, damping }, seed, values });

  for (const rule of RULES) {
    const damping = nameOfRule(rule);
    for (const method of methodsFor(prepared, kernels, R, seed, ALL_ESTIMATORS, [])) {
      if (!method.damped && rule !== RULES[0]) continue;
      const started = performance.now();
      const influence = await method.influence(rule);
      const seconds = (performance.now() - started) / 1000;
      const own = method.name === "exact" ? new Float64Array(n) : null;
      for (const kernel of own ? kernels : []) {
        selfInfluence(kernel, lambdaOf(rule, traceOf(kernel), kernel.width, n)).forEach((value, i) => {
          if (own) own[i]! += value;
        });
      }
      add(method.name, method.damped ? damping : "none", {
        AUC: areaUnderCurve(influence, wrong),
        "AUC of self-influence": own && areaUnderCurve(own, wrong),
        seconds,
      });
    }
  }
  for (const compressor of ALL_COMPRESSORS) {
    const started = performance.now();
    const layers = await compressedLayers(prepared, compressor, R, seed);
    const compressing = performance.now() - started;
    for (const rule of RULES) {
      const before = performance.now();
      const { influence, own } = await compressedScores(prepared, layers, rule, true);
      add(`${compressor}, R = ${R}`, nameOfRule(rule), {
        AUC: areaUnderCurve(influence, wrong),
        "AUC of self-influence": areaUnderCurve(own, wrong),
        seconds: (compressing + performance.now() - before) / 1000,
      });
    }
  }
  add("loss alone", "none", { AUC: areaUnderCurve(prepared.losses.subarray(0, n), wrong) });
  return found;
}
