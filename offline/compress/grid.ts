/**
 * Grid dropout: random rows × random columns of each weight, so that the kept entries are one small matrix product. Cheapest to
 * compute; agrees less with exact influence than the others, and collapses on sparse layers.
 */
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { type Random, random } from "../../src/core/random.ts";
import type { Entries, PerExample } from "../autodiff/per-example.ts";
import { byKey, type Candidate, keyedMask, smallestOf } from "./select.ts";

/** Keeps the entries (p, q) of smallest max(rank p ÷ rows, rank q ÷ columns), the ranks being random. */
export function gridMask(
  layers: readonly Layer[],
  r: readonly number[],
  seed: number | string,
  gradients: ReadonlyMap<string, PerExample>,
): MaskBlock[] {
  const sizes = new Map(layers.flatMap(({ parameters }) => parameters.map(({ name, shape }) => [name, shape])));
  return keyedMask(layers, r, seed, (parameter, count) => {
    const [use] = gradients.get(parameter)?.factors ?? [];
    if (!use) throw new Error(`grid: expected a gradient for parameter ${parameter}, got none`);
    const generator = random(seed, `grid/${parameter}`);
    const rows = shuffled(use.sizes[0], generator);
    const columns = shuffled(use.sizes[1], generator);
    if (use.entries) return growing(rows, columns, use.entries, count);
    const [rowRanks, columnRanks] = [ranks(rows), ranks(columns)];
    const d = (sizes.get(parameter) ?? []).reduce((product, extent) => product * extent, 1);
    return smallestOf(d, Math.min(d, count), (position) => {
      const [p, q] = use.rows(position);
      return Math.max(
        ((rowRanks[p] ?? rows.length) + 1) / rows.length,
        ((columnRanks[q] ?? columns.length) + 1) / columns.length,
      );
    });
  });
}

/**
 * The r entries of smallest keys (or all), found by growing the grid: rows and columns enter in the order of their ranks, and each brings
 * its entries with those of the other side that are there already. O(rows + columns + r) but for the last to enter.
 */
function growing(rows: Uint32Array, columns: Uint32Array, { blocks, each, at }: Entries, r: number): Candidate[] {
  const inside = Array.from({ length: blocks }, () => ({ rows: [] as number[], columns: [] as number[] }));
  const found: Candidate[] = [];
  const enter = (p: number, q: number, key: number) => {
    for (let which = 0; which < each; which++) found.push({ position: at(p, q, which), key });
  };
  for (let i = 0, j = 0, last = 0; i < rows.length || j < columns.length; ) {
    const next = i < rows.length ? (i + 1) / rows.length : Number.POSITIVE_INFINITY;
    const beside = j < columns.length ? (j + 1) / columns.length : Number.POSITIVE_INFINITY;
    const key = Math.min(next, beside);
    if (found.length >= r && key > last) break;
    last = key;
    if (next <= beside) {
      const p = rows[i++] ?? 0;
      const block = inside[Math.floor((p * blocks) / rows.length)];
      for (const q of block?.columns ?? []) enter(p, q, key);
      block?.rows.push(p);
    } else {
      const q = columns[j++] ?? 0;
      const block = inside[Math.floor((q * blocks) / columns.length)];
      for (const p of block?.rows ?? []) enter(p, q, key);
      block?.columns.push(q);
    }
  }
  return found.sort(byKey).slice(0, r);
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

/** Where each index stands in an order. */
function ranks(order: Uint32Array): Uint32Array {
  const found = new Uint32Array(order.length);
  order.forEach((index, rank) => {
    found[index] = rank;
  });
  return found;
}
