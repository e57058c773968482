/** `retraining`: without the most influential examples, or with them only, how good is the model trained anew (Tables 2 to 5)? */
import { train } from "../../train/train.ts";
import type { Experiment } from "../experiment.ts";
import type { Measurement } from "../measurement.ts";
import { methodsFor } from "../methods.ts";
import { sideBySide } from "../product.ts";
import { kernelsOf, withMeanQuery } from "../score.ts";
import { mean, smallest } from "../statistics.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare, trainerFor } from "../tasks/prepare.ts";
import type { Task } from "../tasks/task.ts";

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

const ESTIMATORS = ["exact", "DataInf", "Hessian-free"];
const COMPRESSORS = ["dropout", "factored importance dropout", "eigenbasis dropout"];

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
  const classes = await classesOf(task);
  const choices: Choice[] = [];
  const choose = (method: string, order: readonly number[]) => {
    const sorted = (rows: readonly number[]) => [...rows].sort((a, b) => a - b);
    for (const percent of without) {
      const rows = sorted(order.slice(Math.round((percent / 100) * n)));
      choices.push({ method, trained: "without the most helpful", percent, rows });
    }
    for (const percent of only) {
      const rows = sorted(order.slice(0, Math.round((percent / 100) * n)));
      choices.push({ method, trained: "with only the most helpful", percent, rows });
    }
  };
  for (const method of methodsFor(prepared, kernels, R, seed, ESTIMATORS, COMPRESSORS)) {
    const order = smallest(await method.influence("default"), n);
    choose(method.name, order);
    if (method.name === "exact" && classes) choose("exact, classes balanced", balanced(order, classes));
  }
  // The order that knows nothing of the queries: examples the trained model finds easiest first.
  choose("least training loss", smallest(prepared.losses, n));

  // One thread each, side by side, as for the halves of LDS.
  const trainer = await trainerFor(task, 1);
  const feeds = await task.queries.feeds(Array.from({ length: m }, (_, row) => row));
  const found = await sideBySide(choices.length, async (index): Promise<Measurement> => {
    const { method, trained, percent, rows } = choices[index]!;
    // As many examples gone through as with all of them: in as many epochs a tenth of them would hardly be learnt.
    const epochs = Math.round((task.recipe.epochs * n) / rows.length);
    const { state } = await train(trainer, task.train, { ...task.recipe, epochs, seed: `${seed}/again` }, rows);
    const losses = await trainer.losses(state, feeds);
    return {
      of: { task: task.name, trained, percent, method },
      seed,
      values: {
        "query loss": mean([...losses]),
        "most frequent class": classes && share(rows, classes),
        "training loss before": mean(rows.map((row) => prepared.losses[row]!)),
      },
    };
  });
  await trainer.release();
  return found;
}

interface Choice {
  method: string;
  trained: string;
  percent: number;
  /** Training rows that are kept. */
  rows: number[];
}

/** The class of each training example; null where an example has more targets than one. */
async function classesOf({ train: examples }: Task): Promise<number[] | null> {
  const { target } = await examples.feeds(Array.from({ length: examples.n }, (_, row) => row));
  return target?.dims.length === 1 ? Array.from(target.data, Number) : null;
}

/** The same order within each class, the classes in turn. */
function balanced(order: readonly number[], classes: readonly number[]): number[] {
  const turn = new Map<number, number>();
  const turns = order.map((row) => {
    const taken = turn.get(classes[row]!) ?? 0;
    turn.set(classes[row]!, taken + 1);
    return taken;
  });
  return smallest(turns, order.length).map((place) => order[place]!);
}

/** Share of the rows that are of their most frequent class. */
function share(rows: readonly number[], classes: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const row of rows) counts.set(classes[row]!, (counts.get(classes[row]!) ?? 0) + 1);
  return Math.max(...counts.values()) / rows.length;
}
