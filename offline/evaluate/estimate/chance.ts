/** Random scores: what any measure gives by chance. */
import { random } from "../../../src/core/random.ts";
import type { Estimator } from "./estimator.ts";

export const chance = (seed: number | string): Estimator => ({
  name: "random",
  influence: ({ n, m }) => {
    const { normal } = random(seed, "chance");
    return Float64Array.from({ length: m * n }, normal);
  },
});
