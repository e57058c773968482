/** `build --memory`: as many kept coordinates as an index of so many bytes can have. */

import { describe, differentiate } from "../compile/compile.ts";
import { compileOptions, modelPath } from "../compile/compiled.ts";
import { openSplit } from "../dataset/open-datasets.ts";
import { choose, chosenLine, dimensionFor } from "../index/plan.ts";
import { readModel } from "../onnx/model.ts";
import type { Run } from "./run.ts";

/**
 * The run with the largest R with which its index is searched from `memory` bytes and a query reads at most its top rows, whatever r
 * the configuration has. Throws an Error for imported gradients, which bring their R.
 */
export async function fittedTo(run: Run, memory: number): Promise<Run> {
  const { config, progress } = run;
  if (config.model === undefined) {
    throw new Error("--memory: expected a model whose R can be chosen, got imported gradients; leave it out");
  }
  if (config.ensemble)
    throw new Error("--memory: expected one mask, got an ensemble; set `r` of each, or leave it out");
  const path = modelPath(config);
  const { b, layers, target } = differentiate(await readModel(path), path, compileOptions(config));
  const inputs = b.inputs.filter((port) => port !== target).map(describe);
  const { n } = await openSplit(run, config.train, { inputs, target: target && describe(target), classes: null });
  const total = dimensionFor(
    n,
    memory,
    layers.reduce((sum, { d }) => sum + d, 0),
  );
  progress.note(`         ${chosenLine(choose(n, total, memory))}`);
  progress.note(`         the other commands take it from the configuration: r: { total: ${total} }`);
  return { ...run, config: { ...config, r: { total } } };
}
