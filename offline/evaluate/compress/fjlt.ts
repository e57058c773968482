/**
 * Fast Johnson-Lindenstrauss transform, in its subsampled form: random signs, a Walsh-Hadamard transform of the gradient padded
 * to a power of two D, and r of its D entries, times 1/√r (Ailon and Chazelle, 2009; Tropp, 2011).
 */
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import type { Compressor } from "./compressor.ts";

/** In place: x ← H x, H the Hadamard matrix of ±1 of x's length, a power of two. */
export function hadamard(x: Float32Array): void {
  for (let half = 1; half < x.length; half *= 2) {
    for (let block = 0; block < x.length; block += 2 * half) {
      for (let k = block; k < block + half; k++) {
        const a = x[k]!;
        const b = x[k + half]!;
        x[k] = a + b;
        x[k + half] = a - b;
      }
    }
  }
}

export const fjlt: Compressor = {
  name: "FJLT",
  needs: "nothing",
  projection: ({ layer: { d, name }, r, seed }) => {
    const size = 2 ** Math.ceil(Math.log2(d));
    const generator = random(seed, `fjlt/${name}`);
    const signs = Float32Array.from({ length: d }, () => (generator.uint32() & 1 ? 1 : -1));
    const kept = sampleWithoutReplacement(size, r, generator.below);
    return {
      r,
      apply: (values, rows) => {
        const result = new Float32Array(rows * r);
        const spread = new Float32Array(size);
        const scale = 1 / Math.sqrt(r);
        for (let row = 0; row < rows; row++) {
          spread.fill(0);
          for (let k = 0; k < d; k++) spread[k] = signs[k]! * values[row * d + k]!;
          hadamard(spread);
          for (let k = 0; k < r; k++) result[row * r + k] = scale * spread[kept[k]!]!;
        }
        return result;
      },
    };
  },
};
