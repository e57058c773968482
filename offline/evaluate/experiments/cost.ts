/** `cost`: seconds and memory to compress (Tables 8 and 11), and seconds to precondition (Table 10), against n and d. */
import { compressorOf } from "../compress/all.ts";
import { compressedInfluence } from "../estimate/direct.ts";
import { kernelOf, lambdaOf, traceOf } from "../estimate/estimator.ts";
import type { Experiment } from "../experiment.ts";
import type { Measurement } from "../measurement.ts";
import { ESTIMATORS } from "../methods.ts";
import { compressionCost, settingOf, syntheticLayer } from "./compression-cost.ts";
import { graphCost } from "./graph-cost.ts";

export interface CostSize {
  counts: number[];
  /** Inputs of a layer of 64 outputs: d = 64·(inputs + 1). */
  inputs: number[];
  r: number;
  repeats: number;
  /** Each has a process of its own for every n and d. */
  compressors: readonly string[];
  /** Of the layer whose compression inside the gradient graph is timed. */
  graph: { positions: number; width: number; sizes: number[]; rounds: number };
}

export function cost({ counts, inputs, r, repeats, compressors, graph }: CostSize): Experiment {
  return {
    name: "cost",
    title: "Cost of compressing full gradients to r numbers, and of preconditioning",
    settings: { counts: counts.join(), inputs: inputs.join(), r, repeats },
    units: [
      ...counts.flatMap((n) =>
        inputs.map((width) => ({ name: `${n}-${width}`, measure: () => measure(n, width, r, repeats, compressors) })),
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

async function measure(
  n: number,
  inputs: number,
  r: number,
  repeats: number,
  compressors: readonly string[],
): Promise<Measurement[]> {
  const d = 64 * (inputs + 1);
  const found: Measurement[] = [];
  const add = (what: string, seconds: number) =>
    found.push({ of: { what, kind: "precondition", n, d }, seed: 1, values: { seconds } });

  for (const name of compressors) {
    const { seconds, bytes } = await compressionCost({
      compressor: name,
      n: n + 1,
      inputs,
      r: Math.min(r, d),
      repeats,
    });
    found.push({ of: { what: name, kind: "compress", n, d }, seed: 1, values: { seconds, megabytes: bytes / 1e6 } });
  }
  const { values, layer } = syntheticLayer(n + 1, inputs);
  const started = performance.now();
  const kernel = await kernelOf(values, n, 1, d);
  const products = (performance.now() - started) / 1000;
  for (const estimator of ESTIMATORS) {
    const before = performance.now();
    await estimator.influence(kernel, lambdaOf("default", traceOf(kernel), d, n));
    add(estimator.name, products + (performance.now() - before) / 1000);
  }
  const kept = await compressorOf("dropout").projection(settingOf(values, layer, n + 1, Math.min(r, d), 1));
  const compressed = await kept.apply(values, n + 1);
  const before = performance.now();
  await compressedInfluence(compressed, n, 1, kept.r, "default");
  add(`compressed, r = ${r}`, (performance.now() - before) / 1000);
  return found;
}
