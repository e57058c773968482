/** `lds`: does influence predict what retraining does? Models on random halves of the data (arXiv 2303.14186). */
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { train } from "../../train/train.ts";
import { type DampingRule, nameOfRule } from "../estimate/estimator.ts";
import type { Experiment } from "../experiment.ts";
import { linearDatamodelingScore } from "../lds.ts";
import type { Measurement } from "../measurement.ts";
import { ALL_COMPRESSORS, methodsFor } from "../methods.ts";
import { sideBySide } from "../product.ts";
import { kernelsOf } from "../score.ts";
import { mean } from "../statistics.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare, trainerFor } from "../tasks/prepare.ts";
import type { Task } from "../tasks/task.ts";

export interface LdsSize {
  tasks: TaskName[];
  n: number;
  m: number;
  R: number;
  models: number;
  seeds: number[];
}

const RULES: DampingRule[] = ["default", "paper", { trace: 1e-4 }, { trace: 1e-3 }, { trace: 1e-2 }, { trace: 0.1 }];
const ESTIMATORS = ["exact", "LiSSA, 10 iterations", "DataInf", "Hessian-free"];

export function lds({ tasks, n, m, R, models, seeds }: LdsSize): Experiment {
  return {
    name: "lds",
    title: "Linear datamodeling score: influence against retraining on random halves",
    settings: { n, m, R, models },
    units: tasks.flatMap((task) =>
      seeds.map((seed) => ({ name: `${task}-${seed}`, measure: () => measure(task, n, m, R, models, seed) })),
    ),
    plot: {
      x: "method",
      y: "LDS",
      line: "damping",
      facet: "task",
      logarithmic: false,
      label: "LDS, mean over queries",
      only: (of) => of.damping === "chosen" || of.damping === "default" || of.damping === "none",
    },
  };
}

/** The queries' losses under models trained on random halves: [models, m]. */
async function retrained(task: Task, models: number, seed: number) {
  // Small models gain little from a second thread in each operator, and all of it from a second model beside the first.
  const trainer = await trainerFor(task, 1);
  const { below } = random(seed, "halves");
  const { n } = task.train;
  const feeds = await task.queries.feeds(Array.from({ length: task.queries.n }, (_, row) => row));
  const subsets = Array.from({ length: models }, () => [...sampleWithoutReplacement(n, Math.floor(n / 2), below)]);
  const losses = await sideBySide(models, async (model) => {
    const { state } = await train(trainer, task.train, { ...task.recipe, seed: `${seed}/${model}` }, subsets[model]);
    return trainer.losses(state, feeds);
  });
  await trainer.release();
  return { subsets, losses };
}

async function measure(
  name: TaskName,
  n: number,
  m: number,
  R: number,
  models: number,
  seed: number,
): Promise<Measurement[]> {
  const task = await TASKS[name]({ n, m, seed, flip: 0.2 });
  const { subsets, losses } = await retrained(task, models, seed);
  const prepared = await prepare(task);
  const kernels = await kernelsOf(prepared);
  // One query in ten chooses the damping, the others are reported.
  const choosing = (query: number) => query % 10 === 0;
  const found: Measurement[] = [];
  for (const method of methodsFor(prepared, kernels, R, seed, ESTIMATORS, ALL_COMPRESSORS)) {
    const tried: { rule: string; chosenOn: number; score: number }[] = [];
    for (const rule of method.damped ? RULES : RULES.slice(0, 1)) {
      const influence = await method.influence(rule);
      const scores = Array.from({ length: m }, (_, query) =>
        linearDatamodelingScore(
          influence.subarray(query * n, (query + 1) * n),
          subsets,
          losses.map((row) => row[query]!),
        ),
      );
      tried.push({
        rule: method.damped ? nameOfRule(rule) : "none",
        chosenOn: mean(scores.filter((_, query) => choosing(query))),
        score: mean(scores.filter((_, query) => !choosing(query))),
      });
    }
    const add = (damping: string, score: number) =>
      found.push({ of: { task: task.name, method: method.name, damping }, seed, values: { LDS: score } });
    for (const { rule, score } of tried) add(rule, score);
    if (method.damped)
      add("chosen", tried.reduce((best, other) => (other.chosenOn > best.chosenOn ? other : best)).score);
  }
  return found;
}
