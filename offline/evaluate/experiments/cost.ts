/** `cost`: seconds to compress (Tables 8 and 11), and to precondition (Table 10), against n and d. */

import type { Layer } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { COMPRESSORS } from "../compress/all.ts";
import { fillNormal } from "../compress/gaussian.ts";
import { compressedInfluence } from "../estimate/direct.ts";
import { kernelOf, lambdaOf, traceOf } from "../estimate/estimator.ts";
import type { Experiment, Measurement } from "../experiment.ts";
import { everyNth } from "../gradients.ts";
import { ESTIMATORS } from "../methods.ts";
import { median } from "../statistics.ts";
import { CALIBRATION } from "../tasks/prepare.ts";
import { graphCost } from "./graph-cost.ts";

export interface CostSize {
  counts: number[];
  /** Inputs of a layer of 64 outputs: d = 64·(inputs + 1). */
  inputs: number[];
  r: number;
  repeats: number;
  /** Of the layer whose compression inside the gradient graph is timed. */
  graph: { positions: number; width: number; sizes: number[]; rounds: number };
}

export function cost({ counts, inputs, r, repeats, graph }: CostSize): Experiment {
  return {
    name: "cost",
    title: "Cost of compressing full gradients to r numbers, and of preconditioning",
    settings: { counts: counts.join(), inputs: inputs.join(), r, repeats },
    units: [
      ...counts.flatMap((n) =>
        inputs.map((width) => ({ name: `${n}-${width}`, measure: () => measure(n, width, r, repeats) })),
      ),
      {
        name: `graph-${graph.positions}-${graph.width}`,
        measure: () => graphCost(graph.positions, graph.width, graph.sizes, graph.rounds),
      },
    ],
    plot: {
      x: "d",
      y: "seconds",
      line: "what",
      facet: "n",
      logarithmic: true,
      label: "seconds to compress n full gradients",
      only: (of) => of.kind === "compress" && of.what !== "none",
    },
  };
}

async function measure(n: number, inputs: number, r: number, repeats: number): Promise<Measurement[]> {
  const d = 64 * (inputs + 1);
  const layer: Layer = {
    name: "fc",
    d,
    parameters: [
      { name: "fc.weight", shape: [64, inputs] },
      { name: "fc.bias", shape: [64] },
    ],
  };
  const values = new Float32Array((n + 1) * d);
  fillNormal(values, random(1, "cost"), 1);
  const calibrationRows = Math.min(CALIBRATION, n);
  const calibration = everyNth(values, d, n, calibrationRows);
  const found: Measurement[] = [];
  const add = (what: string, kind: string, seconds: number[]) =>
    found.push({ of: { what, kind, n, d }, seed: 1, values: { seconds: median(seconds) } });

  let kept: Float32Array | null = null;
  for (const { name, projection } of COMPRESSORS) {
    const seconds: number[] = [];
    for (let repeat = 0; repeat < repeats; repeat++) {
      const started = performance.now();
      const made = await projection({
        layer,
        r: Math.min(r, d),
        seed: repeat,
        calibration,
        calibrationRows,
        factored: (position) => 1 / (1 + (position % inputs)),
      });
      const compressed = await made.apply(values, n + 1);
      seconds.push((performance.now() - started) / 1000);
      if (name === "dropout") kept = compressed;
    }
    add(name, "compress", seconds);
  }
  for (const estimator of ESTIMATORS) {
    const started = performance.now();
    const kernel = await kernelOf(values, n, 1, d);
    await estimator.influence(kernel, lambdaOf("default", traceOf(kernel), d, n));
    add(estimator.name, "precondition", [(performance.now() - started) / 1000]);
  }
  if (kept) {
    const started = performance.now();
    await compressedInfluence(kept, n, 1, Math.min(r, d), "default");
    add(`compressed, r = ${r}`, "precondition", [(performance.now() - started) / 1000]);
  }
  return found;
}
