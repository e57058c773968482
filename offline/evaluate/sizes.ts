/** How large each experiment is: `smoke` for continuous integration, `reduced` for two cores within the hour. */
import { COMPRESSORS } from "./compress/all.ts";
import type { Experiment } from "./experiment.ts";
import { agreement } from "./experiments/agreement.ts";
import { cost } from "./experiments/cost.ts";
import { crossSource } from "./experiments/cross-source.ts";
import { lds } from "./experiments/lds.ts";
import { mislabeled } from "./experiments/mislabeled.ts";
import { retraining } from "./experiments/retraining.ts";
import { size } from "./experiments/size.ts";

export type SizeName = "smoke" | "reduced";

const seeds = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

/** In the order in which `all` runs them. `runs`: how many seeds; the size's own number by default. */
export const EXPERIMENTS: Record<string, (size: SizeName, runs?: number) => Experiment> = {
  agreement: (name, runs) =>
    name === "smoke"
      ? agreement({ tasks: ["mlp"], n: 100, m: 5, totals: [64, 256], seeds: seeds(runs ?? 1) })
      : agreement({
          tasks: ["mlp", "cnn", "spam"],
          n: 600,
          m: 40,
          totals: [256, 1024, 4096],
          seeds: seeds(runs ?? 3),
        }),
  mislabeled: (name, runs) =>
    name === "smoke"
      ? mislabeled({ tasks: ["mlp"], n: 150, m: 50, R: 128, seeds: seeds(runs ?? 1) })
      : mislabeled({
          tasks: ["mlp", "cnn", "spam", "lora2", "lora8"],
          n: 600,
          m: 200,
          R: 512,
          seeds: seeds(runs ?? 3),
        }),
  size: (name, runs) =>
    name === "smoke"
      ? size({ tasks: ["mlp"], n: 100, m: 5, totals: [4, 64], draws: runs ?? 2 })
      : size({ tasks: ["mlp", "cnn"], n: 600, m: 200, totals: [1, 4, 16, 64, 256, 1024, 4096], draws: runs ?? 3 }),
  cost: (name) =>
    name === "smoke"
      ? cost({
          counts: [60],
          inputs: [63],
          r: 64,
          repeats: 1,
          compressors: ["dropout", "Gaussian", "eigenbasis dropout"],
          graph: { positions: 8, width: 64, sizes: [64], rounds: 2 },
        })
      : cost({
          counts: [250, 1000],
          inputs: [98, 392, 1568],
          r: 512,
          repeats: 3,
          compressors: COMPRESSORS.map((compressor) => compressor.name),
          graph: { positions: 128, width: 512, sizes: [256, 1024, 4096], rounds: 15 },
        }),
  lds: (name, runs) =>
    name === "smoke"
      ? lds({ tasks: ["mlp"], n: 100, m: 10, R: 64, models: 6, seeds: seeds(runs ?? 1) })
      : lds({ tasks: ["mlp", "cnn", "spam"], n: 600, m: 100, R: 1024, models: 50, seeds: seeds(runs ?? 2) }),
  retraining: (name, runs) =>
    name === "smoke"
      ? retraining({ tasks: ["mlp"], n: 100, m: 50, R: 64, without: [25], only: [20], seeds: seeds(runs ?? 1) })
      : retraining({
          tasks: ["resnet", "gpt"],
          n: 400,
          m: 200,
          R: 512,
          without: [5, 15, 25, 35],
          only: [5, 10, 15, 20],
          seeds: seeds(runs ?? 1),
        }),
  "cross-source": (name, runs) =>
    name === "smoke"
      ? crossSource({ each: 10, queriesEach: 2, R: 128, epochs: 2, seeds: seeds(runs ?? 1) })
      : crossSource({ each: 200, queriesEach: 15, R: 2048, epochs: 20, seeds: seeds(runs ?? 2) }),
};
