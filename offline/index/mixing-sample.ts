/** Typical queries and rows in balanced coordinates: their second moments, and a few of them to count the cost of a search on. */
import { DROPPED } from "../../src/core/basis.ts";
import { type Trial, thresholds } from "./mixing-cost.ts";
import { rowProducts } from "./row-products.ts";
import type { Typical } from "./typical.ts";

/** m vectors [m, R] with the factor of each coordinate [R], by which they are balanced, and their norms then [m]. */
interface Balanced {
  values: Float32Array;
  scales: Float64Array;
  norms: Float64Array;
}

export interface Sample {
  R: number;
  queries: Balanced;
  rows: Balanced;
  /** Pairs whose vectors are finite. */
  usable: Uint32Array;
  /** Of them those that blocks are designed for; the others are for counting the cost. */
  designed: Uint32Array;
}

/** Every fourth pair is held out of the design. */
const HELD_OUT_STRIDE = 4;
/** So many samples a coordinate make its second moments: more change nothing. */
const SAMPLES_PER_COORDINATE = 4;
const FEWEST_SAMPLES = 2048;
/** Of rows the longest third counts, since a search skips many shorter ones by their norm; at least so many a coordinate. */
const LONG_SHARE = 1 / 3;
const LONG_PER_COORDINATE = 4;
const TRIAL_QUERIES = 64;
const MOST_TRIAL_ROWS = 2048;
/** Rows whose products with the queries are taken at a time. */
const PRODUCT_ROWS = 256;

/** `exponents` [R]: the balance. Dropped coordinates are zero in every row, and count as zero in queries too. */
export function openSample({ gradients, rows }: Typical, exponents: Int16Array): Sample {
  const R = exponents.length;
  const powers = (sign: number) =>
    Float64Array.from(exponents, (exponent) => (exponent === DROPPED ? 0 : 2 ** (sign * exponent)));
  const balanced = { queries: balance(gradients, powers(1)), rows: balance(rows, powers(-1)) };
  const usable = Uint32Array.from(balanced.rows.norms.keys()).filter((pair) =>
    Number.isFinite(balanced.rows.norms[pair]! + balanced.queries.norms[pair]!),
  );
  return { R, ...balanced, usable, designed: usable.filter((_, i) => i % HELD_OUT_STRIDE !== HELD_OUT_STRIDE - 1) };
}

function balance(values: Float32Array, scales: Float64Array): Balanced {
  const R = scales.length;
  const norms = new Float64Array(values.length / R);
  for (let i = 0; i < norms.length; i++) {
    let sum = 0;
    for (let j = 0; j < R; j++) sum += (values[i * R + j]! * scales[j]!) ** 2;
    norms[i] = Math.sqrt(sum);
  }
  return { values, scales, norms };
}

/** Second moments [w, w] of coordinates from … from + w − 1, of queries and of long rows, each made of length 1 first. */
export function momentsOf({ queries, rows, designed }: Sample, from: number, width: number) {
  const enough = Math.max(FEWEST_SAMPLES, SAMPLES_PER_COORDINATE * width);
  const nonZero = designed.filter((pair) => queries.norms[pair]! > 0);
  const byLength = designed
    .filter((pair) => rows.norms[pair]! > 0)
    .sort((a, b) => rows.norms[b]! - rows.norms[a]! || a - b);
  const long = byLength.subarray(0, Math.max(Math.ceil(LONG_SHARE * byLength.length), LONG_PER_COORDINATE * width));
  return {
    queries: moments(queries, evenly(nonZero, enough), from, width),
    rows: moments(rows, evenly(long, enough), from, width),
  };
}

function moments({ values, scales, norms }: Balanced, picked: Uint32Array, from: number, width: number): Float64Array {
  const R = scales.length;
  const k = picked.length;
  if (k === 0) return new Float64Array(width * width);
  const byCoordinate = new Float64Array(width * k);
  picked.forEach((pair, i) => {
    const factor = 1 / norms[pair]!;
    for (let j = 0; j < width; j++) byCoordinate[j * k + i] = values[pair * R + from + j]! * scales[from + j]! * factor;
  });
  return rowProducts(byCoordinate, byCoordinate, k, true).map((sum) => sum / k);
}

/** Queries and rows that no block was designed for, as nearly as the sample allows. */
export function openTrial(sample: Sample, n: number): Trial {
  const { R, queries, rows, usable } = sample;
  const heldOut = usable.filter((_, i) => i % HELD_OUT_STRIDE === HELD_OUT_STRIDE - 1);
  const asked = evenly(
    heldOut.filter((pair) => queries.norms[pair]! > 0),
    TRIAL_QUERIES,
  );
  const vectors = vectorsOf(queries, asked);
  const products = new Float64Array(asked.length * usable.length);
  for (let first = 0; first < usable.length; first += PRODUCT_ROWS) {
    const picked = usable.subarray(first, first + PRODUCT_ROWS);
    const part = rowProducts(vectors, vectorsOf(rows, picked), R);
    for (let query = 0; query < asked.length; query++)
      products.set(part.subarray(query * picked.length, (query + 1) * picked.length), query * usable.length + first);
  }
  return {
    queries: vectors,
    rows: vectorsOf(rows, evenly(heldOut, MOST_TRIAL_ROWS)),
    thresholds: thresholds(
      products,
      usable.length,
      n,
      asked.map((pair) => usable.indexOf(pair)),
    ),
  };
}

/** [k, R]: the balanced vectors of these pairs. */
function vectorsOf({ values, scales }: Balanced, picked: Uint32Array): Float64Array {
  const R = scales.length;
  const vectors = new Float64Array(picked.length * R);
  picked.forEach((pair, i) => {
    for (let j = 0; j < R; j++) vectors[i * R + j] = values[pair * R + j]! * scales[j]!;
  });
  return vectors;
}

/** At most `most` of the pairs, evenly spread. */
const evenly = (pairs: Uint32Array, most: number): Uint32Array =>
  pairs.length <= most
    ? pairs
    : Uint32Array.from({ length: most }, (_, i) => pairs[Math.floor((i * pairs.length) / most)]!);
