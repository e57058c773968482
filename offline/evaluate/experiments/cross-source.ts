/** `cross-source`: do the most helpful training passages of a query come from its own source (Table 6)? */
import type { Experiment } from "../experiment.ts";
import type { Measurement } from "../measurement.ts";
import { ALL_COMPRESSORS, methodsFor } from "../methods.ts";
import { kernelsOf } from "../score.ts";
import { mean, smallest } from "../statistics.ts";
import { prepare } from "../tasks/prepare.ts";
import { sourceTask } from "../tasks/source-task.ts";

export interface CrossSourceSize {
  /** Training passages, and queries, of each of the six sources. */
  each: number;
  queriesEach: number;
  R: number;
  epochs: number;
  seeds: number[];
}

/** Converged, LiSSA is exact influence, at a price that grows with n³. */
const ESTIMATORS = ["exact", "LiSSA, 10 iterations", "DataInf", "Hessian-free"];

export function crossSource({ each, queriesEach, R, epochs, seeds }: CrossSourceSize): Experiment {
  return {
    name: "cross-source",
    title: "Six text sources: how often the most helpful passages are of the query's own",
    settings: { each, queriesEach, R, epochs },
    units: seeds.map((seed) => ({ name: `gpt-${seed}`, measure: () => measure(each, queriesEach, R, epochs, seed) })),
    plot: {
      x: "method",
      y: "top-1",
      line: "task",
      facet: "task",
      logarithmic: false,
      label: "share of queries whose most helpful passage is of their own source",
    },
  };
}

async function measure(
  each: number,
  queriesEach: number,
  R: number,
  epochs: number,
  seed: number,
): Promise<Measurement[]> {
  const { task, trainSources, querySources } = sourceTask(each, queriesEach, epochs, seed);
  const prepared = await prepare(task);
  const kernels = await kernelsOf(prepared);
  const { n, m } = prepared;
  const found: Measurement[] = [];
  for (const method of methodsFor(prepared, kernels, R, seed, ESTIMATORS, ALL_COMPRESSORS)) {
    const influence = await method.influence("default");
    const own = Array.from({ length: m }, (_, query) =>
      smallest(influence.subarray(query * n, (query + 1) * n), 3).map(
        (row) => trainSources[row] === querySources[query],
      ),
    );
    found.push({
      of: { task: task.name, method: method.name },
      seed,
      values: {
        "top-1": mean(own.map(([first]) => Number(first))),
        "all top-3": mean(own.map((hits) => Number(hits.every(Boolean)))),
      },
    });
  }
  return found;
}
