/** The methods that the experiments on whole tasks compare, one list for all: estimators on full gradients, and compressors. */
import { COMPRESSORS } from "./compress/all.ts";
import { bm25 } from "./estimate/bm25.ts";
import { chance } from "./estimate/chance.ts";
import { dataInf } from "./estimate/data-inf.ts";
import { direct } from "./estimate/direct.ts";
import type { DampingRule, Estimator, Kernel } from "./estimate/estimator.ts";
import { hessianFree } from "./estimate/hessian-free.ts";
import { lissa, lissaToConvergence } from "./estimate/lissa.ts";
import { compressedLayers, compressedScores, estimated } from "./score.ts";
import type { Prepared } from "./tasks/prepare.ts";

/** On full gradients, through inner products. */
export const ESTIMATORS: readonly Estimator[] = [direct, lissa(10), lissaToConvergence, dataInf, hessianFree];

export interface Method {
  name: string;
  /** [m, n]; negative is helpful. */
  influence(rule: DampingRule): Promise<Float64Array> | Float64Array;
  /** Whether damping changes anything. */
  damped: boolean;
}

/** Every method for a prepared task: `R` numbers for the compressed ones, of the given names. */
export function methodsFor(
  prepared: Prepared,
  kernels: readonly Kernel[],
  R: number,
  seed: number,
  estimators: readonly string[],
  compressors: readonly string[],
): Method[] {
  const { n, m, task } = prepared;
  const methods: Method[] = ESTIMATORS.filter(({ name }) => estimators.includes(name)).map((estimator) => ({
    name: estimator.name,
    damped: estimator !== hessianFree,
    influence: (rule) => estimated(kernels, estimator, rule),
  }));
  for (const { name } of COMPRESSORS.filter((compressor) => compressors.includes(compressor.name))) {
    // Compressed once, however many dampings are asked for.
    let layers: ReturnType<typeof compressedLayers> | null = null;
    methods.push({
      name: `${name}, R = ${R}`,
      damped: true,
      influence: async (rule) => {
        layers ??= compressedLayers(prepared, name, R, seed);
        return (await compressedScores(prepared, await layers, rule)).influence;
      },
    });
  }
  const { texts } = task;
  if (texts && texts.queries.length === m) {
    methods.push({ name: "BM25", damped: false, influence: () => bm25(texts.train, texts.queries) });
  }
  const kernel: Kernel = { n, m, width: 1, train: new Float64Array(), cross: new Float64Array() };
  methods.push({ name: "random", damped: false, influence: () => chance(seed).influence(kernel, 1) });
  return methods;
}

export const ALL_ESTIMATORS = ESTIMATORS.map(({ name }) => name);
export const ALL_COMPRESSORS = COMPRESSORS.filter(({ name }) => name !== "none").map(({ name }) => name);
