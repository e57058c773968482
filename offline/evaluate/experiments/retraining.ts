/** `retraining`: without the most influential examples, or with them only, how good is the model trained anew (Tables 2 to 5)? */
import { train } from "../../train/train.ts";
import type { Experiment, Measurement } from "../experiment.ts";
import { methodsFor } from "../methods.ts";
import { kernelsOf, withMeanQuery } from "../score.ts";
import { mean, smallest } from "../statistics.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare, trainerFor } from "../tasks/prepare.ts";

export interface RetrainingSize {
  tasks: TaskName[];
  n: number;
  m: number;
  R: number;
  /** Shares of the training set that are removed, and that alone are kept. */
  without: number[];
  only: number[];
  seeds: number[];
}

const ESTIMATORS = ["exact", "LiSSA, 10 iterations", "DataInf", "Hessian-free"];
const COMPRESSORS = ["dropout", "factored importance dropout", "Gaussian", "eigenbasis dropout"];

export function retraining({ tasks, n, m, R, without, only, seeds }: RetrainingSize): Experiment {
  return {
    name: "retraining",
    title: "The queries' loss after training without, or with only, the most helpful examples",
    settings: { n, m, R, without: without.join(), only: only.join() },
    units: tasks.flatMap((task) =>
      seeds.map((seed) => ({
        name: `${task}-${seed}`,
        measure: () => measure(task, n, m, R, without, only, seed),
      })),
    ),
    plot: {
      x: "percent",
      y: "query loss",
      line: "method",
      facet: "trained",
      logarithmic: false,
      label: "mean loss of the queries",
    },
  };
}

async function measure(
  name: TaskName,
  n: number,
  m: number,
  R: number,
  without: number[],
  only: number[],
  seed: number,
): Promise<Measurement[]> {
  const task = await TASKS[name]({ n, m, seed, flip: 0 });
  const prepared = withMeanQuery(await prepare(task));
  const kernels = await kernelsOf(prepared);
  const trainer = await trainerFor(task);
  const feeds = await task.queries.feeds(Array.from({ length: m }, (_, row) => row));
  const found: Measurement[] = [];
  async function add(method: string, trained: string, percent: number, rows: number[]) {
    const { state } = await train(trainer, task.train, { ...task.recipe, seed: `${seed}/again` }, rows);
    const losses = await trainer.losses(state, feeds);
    found.push({
      of: { task: task.name, trained, percent, method },
      seed,
      values: { "query loss": mean([...losses]) },
    });
  }
  for (const method of methodsFor(prepared, kernels, R, seed, ESTIMATORS, COMPRESSORS)) {
    const order = smallest(await method.influence("default"), n);
    for (const percent of without) {
      const kept = order.slice(Math.round((percent / 100) * n)).sort((a, b) => a - b);
      await add(method.name, "without the most helpful", percent, kept);
    }
    for (const percent of only) {
      const kept = order.slice(0, Math.round((percent / 100) * n)).sort((a, b) => a - b);
      await add(method.name, "with only the most helpful", percent, kept);
    }
  }
  await trainer.release();
  return found;
}
