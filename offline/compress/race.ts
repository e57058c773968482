/**
 * Weighted sampling without replacement from a product measure, without going through its entries.
 *
 * The law. Drawing one after another, each time in proportion to the weights of what is left, is the same as a race: let every
 * entry i arrive at a time of its own, exponential of rate w_i; the first to arrive among any set is i with probability
 * w_i ÷ Σw of that set, whatever arrived before (the exponential law forgets), so the first r arrivals are r successive draws. The r
 * smallest keys −ln(u)/w of Efraimidis and Spirakis (2006) are just these arrivals.
 *
 * Of Poisson processes of the same rates the first points are the same race. So races merge: where a weight is a sum over uses, or a
 * layer has several parameters, the first r of each race contain the first r of all, an entry's time being its earliest.
 */
import type { Random } from "../../src/core/random.ts";
import type { Entries } from "../autodiff/per-example.ts";
import { byKey, type Candidate } from "./select.ts";

/** Entries of rate x[p]·d[q] ≥ 0. */
export interface ProductMeasure {
  x: ArrayLike<number>;
  d: ArrayLike<number>;
  entries: Entries;
}

/**
 * The first r arrivals, or all entries of a positive rate where there are fewer, in order of time. O((rows + columns + r)·log) time,
 * whatever the number of entries.
 *
 * Entries of a rate above τ, between 2r and 4r of them, are given their times one by one. All others are one Poisson process,
 * whose points are drawn from the product measure cut off at τ, by cumulative sums; a point where the process has been before is
 * passed over. By the time that r have arrived, an entry of rate ≤ τ is expected to have fewer than one point, so that few are.
 */
export function firstArrivals(measure: ProductMeasure, r: number, { unit, below }: Random): Candidate[] {
  const { x, d, entries } = measure;
  const { rows, light, count } = sorted(measure);
  const tau = threshold(rows.largest, rows.least, 2 * r, 4 * r, count);
  const elapsed = (rate: number) => -Math.log(1 - unit()) / rate;

  const heavy: Candidate[] = [];
  const ends = light(tau);
  const masses = new Float64Array(x.length + 1);
  for (const [at, p] of rows.order.entries()) {
    const { from, to, order, prefix } = rows.columnsOf(at);
    const end = ends[at] ?? 0;
    masses[at + 1] = (masses[at] ?? 0) + (x[p] ?? 0) * (prefix[end - from] ?? 0) * entries.each;
    for (let column = end; column < to; column++) {
      const q = order[column] ?? 0;
      for (let which = 0; which < entries.each; which++) {
        heavy.push({ position: entries.at(p, q, which), key: elapsed((x[p] ?? 0) * (d[q] ?? 0)) });
      }
    }
  }
  heavy.sort(byKey);

  const total = masses[x.length] ?? 0;
  if (total === 0) return heavy.slice(0, r);
  const arrived: Candidate[] = [];
  const seen = new Set<number>();
  let next = 0;
  for (let key = elapsed(total); arrived.length < r; key += elapsed(total)) {
    while (arrived.length < r && (heavy[next]?.key ?? Number.POSITIVE_INFINITY) < key) {
      arrived.push(heavy[next] ?? { position: 0, key });
      next++;
    }
    const at = find(masses, total * unit());
    const { from, order, prefix } = rows.columnsOf(at);
    const column = find(prefix, (prefix[(ends[at] ?? 0) - from] ?? 0) * unit());
    const position = entries.at(rows.order[at] ?? 0, order[from + column] ?? 0, below(entries.each));
    if (seen.has(position)) continue;
    seen.add(position);
    if (arrived.length < r) arrived.push({ position, key });
  }
  return arrived;
}

/** The index i with cumulative[i] ≤ target < cumulative[i + 1]. */
function find(cumulative: Float64Array, target: number): number {
  let [low, high] = [0, cumulative.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((cumulative[middle] ?? 0) <= target) low = middle;
    else high = middle;
  }
  return low;
}

/** Rows and columns in ascending order of their factors, block by block. */
function sorted({ x, d, entries: { blocks, each } }: ProductMeasure) {
  const [height, width] = [x.length / blocks, d.length / blocks];
  const ascending = (values: ArrayLike<number>, size: number): Uint32Array => {
    const order = Uint32Array.from({ length: values.length }, (_, index) => index);
    for (let start = 0; start < order.length; start += size) {
      order.subarray(start, start + size).sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0));
    }
    return order;
  };
  const [order, columns] = [ascending(x, height), ascending(d, width)];
  const prefixes = Array.from({ length: blocks }, (_, block) => {
    const prefix = new Float64Array(width + 1);
    for (let at = 0; at < width; at++) {
      prefix[at + 1] = (prefix[at] ?? 0) + (d[columns[block * width + at] ?? 0] ?? 0);
    }
    return prefix;
  });
  const columnsOf = (at: number) => {
    const block = Math.floor(at / height);
    const from = block * width;
    return { from, to: from + width, order: columns, prefix: prefixes[block] ?? new Float64Array(1) };
  };

  /** Of each row, where its columns of rate above τ begin. Both sides ascend: the place only moves down. */
  function light(tau: number): Uint32Array {
    const ends = new Uint32Array(x.length);
    for (let at = 0, end = 0; at < x.length; at++) {
      const { from, to } = columnsOf(at);
      if (at % height === 0) end = to;
      const factor = x[order[at] ?? 0] ?? 0;
      while (end > from && factor * (d[columns[end - 1] ?? 0] ?? 0) > tau) end--;
      ends[at] = end;
    }
    return ends;
  }
  /** How many entries have a rate above τ. */
  const count = (tau: number): number => light(tau).reduce((sum, end, at) => sum + each * (columnsOf(at).to - end), 0);
  const [xs, ds] = [x, d].map((values) =>
    Float64Array.from(values)
      .filter((value) => value > 0)
      .sort(),
  );
  const largest = (xs?.at(-1) ?? 0) * (ds?.at(-1) ?? 0);
  const rows = { order, columnsOf, largest, least: (xs?.[0] ?? 0) * (ds?.[0] ?? 0) };
  return { rows, light, count };
}

/** τ with between `fewest` and `most` entries above it: 0 if no more than that exist; where many are equal, just above them. */
function threshold(
  largest: number,
  least: number,
  fewest: number,
  most: number,
  count: (tau: number) => number,
): number {
  if (count(0) <= most) return 0;
  let [low, high] = [least / 2, largest];
  while (high / low > 1 + 1e-12) {
    const middle = Math.sqrt(low) * Math.sqrt(high);
    const above = count(middle);
    if (above > most) low = middle;
    else {
      high = middle;
      if (above >= fewest) break;
    }
  }
  return high;
}
