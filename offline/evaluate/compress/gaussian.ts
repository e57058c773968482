/** Dense Gaussian projection: entries N(0, 1/r) (Johnson and Lindenstrauss, 1984). Drawn anew, strip by strip, at each use. */
import { type Random, random } from "../../../src/core/random.ts";
import { product32 } from "../product.ts";
import type { Compressor } from "./compressor.ts";

/** Entries of the projection that exist at once. */
const STRIP = 1 << 23;

/** Standard normals, two from each pair of uniforms (Box-Muller). */
export function fillNormal(target: Float32Array, generator: Random, scale: number): void {
  for (let k = 0; k < target.length; k += 2) {
    const radius = scale * Math.sqrt(-2 * Math.log((generator.uint32() + 1) / 2 ** 32));
    const angle = (2 * Math.PI * generator.uint32()) / 2 ** 32;
    target[k] = radius * Math.cos(angle);
    if (k + 1 < target.length) target[k + 1] = radius * Math.sin(angle);
  }
}

export const gaussian: Compressor = {
  name: "Gaussian",
  needs: "nothing",
  projection: ({ layer: { d, name }, r, seed }) => ({
    r,
    apply: async (values, rows) => {
      const generator = random(seed, `gaussian/${name}`);
      const result = new Float32Array(rows * r);
      const strip = Math.max(1, Math.min(d, Math.floor(STRIP / r)));
      const entries = new Float32Array(strip * r);
      const cut = new Float32Array(rows * strip);
      for (let from = 0; from < d; from += strip) {
        const columns = Math.min(strip, d - from);
        const drawn = entries.subarray(0, columns * r);
        fillNormal(drawn, generator, 1 / Math.sqrt(r));
        for (let row = 0; row < rows; row++) {
          cut.set(values.subarray(row * d + from, row * d + from + columns), row * columns);
        }
        const part = await product32(cut.subarray(0, rows * columns), drawn, [rows, columns, r]);
        for (let k = 0; k < result.length; k++) result[k]! += part[k]!;
      }
      return result;
    },
  }),
};
