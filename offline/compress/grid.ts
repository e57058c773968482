/**
 * Grid dropout: random rows × random columns of each weight, so that the kept entries are one small matrix product. Cheapest to
 * compute; agrees less with exact influence than the others, and collapses on sparse layers.
 */
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { type Random, random } from "../../src/core/random.ts";
import type { PerExample } from "../autodiff/per-example.ts";
import { keyedMask } from "./select.ts";

/** Keeps the entries (p, q) of smallest max(rank p ÷ rows, rank q ÷ columns), the ranks being random. */
export function gridMask(
  layers: readonly Layer[],
  r: readonly number[],
  seed: number | string,
  gradients: ReadonlyMap<string, PerExample>,
): MaskBlock[] {
  return keyedMask(layers, r, (parameter) => {
    const [use] = gradients.get(parameter)?.factors ?? [];
    if (!use) throw new Error(`grid: expected a gradient for parameter ${parameter}, got none`);
    const generator = random(seed, `grid/${parameter}`);
    const [rows, columns] = use.sizes.map((size) => shuffled(size, generator));
    return (position) => {
      const [p, q] = use.rows(position);
      return Math.max(
        ((rows?.[p] ?? use.sizes[0]) + 1) / use.sizes[0],
        ((columns?.[q] ?? use.sizes[1]) + 1) / use.sizes[1],
      );
    };
  });
}

/** A random permutation of 0 … size−1 (Fisher and Yates). */
function shuffled(size: number, generator: Random): Uint32Array {
  const order = Uint32Array.from({ length: size }, (_, index) => index);
  for (let last = size - 1; last > 0; last--) {
    const other = generator.below(last + 1);
    const moved = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = moved;
  }
  return order;
}
