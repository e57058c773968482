/**
 * Sparse Johnson-Lindenstrauss transform with one entry a column: each coordinate is added, with a random sign, to one of r
 * random places (Dasgupta, Kumar and Sarlós, 2010; s = 1 as in GraSS, arXiv 2505.18976).
 */
import { random } from "../../../src/core/random.ts";
import type { Compressor, Projection } from "./compressor.ts";

/** Of the coordinates `kept` (null: all d). */
export function sparseSigns(
  d: number,
  r: number,
  kept: Uint32Array | null,
  seed: number | string,
  name: string,
): Projection {
  const generator = random(seed, `sjlt/${name}`);
  const count = kept?.length ?? d;
  const place = new Uint32Array(count);
  const sign = new Float32Array(count);
  for (let k = 0; k < count; k++) {
    place[k] = generator.below(r);
    sign[k] = generator.uint32() & 1 ? 1 : -1;
  }
  return {
    r,
    apply: (values, rows) => {
      const result = new Float32Array(rows * r);
      for (let row = 0; row < rows; row++) {
        const from = row * d;
        const to = row * r;
        if (kept) for (let k = 0; k < count; k++) result[to + place[k]!]! += sign[k]! * values[from + kept[k]!]!;
        else for (let k = 0; k < count; k++) result[to + place[k]!]! += sign[k]! * values[from + k]!;
      }
      return result;
    },
  };
}

export const sjlt: Compressor = {
  name: "SJLT",
  needs: "nothing",
  projection: ({ layer, r, seed }) => sparseSigns(layer.d, r, null, seed, layer.name),
};
