/** What a search would multiply, with a mixing and without, counted on a sample of typical queries and rows. */

/** Rows that an answer names at each end. */
const ANSWERS = 10;
/** What a product of the tail costs, against one of the head: its rows are visited here and there. */
const SCATTERED = 1.3;

/** Queries and rows to count on, balanced; each query [R] has the threshold that a row must reach to matter. */
export interface Trial {
  queries: Float64Array;
  rows: Float64Array;
  thresholds: Float64Array;
}

export interface Cost {
  /** What a query takes, in products of coordinates with a row's head. */
  products: number;
  /** Coordinates before the tail. */
  head: number;
}

/**
 * The influence that the weaker end's tenth answer has: [queries]. `products` [queries, m]: inner products with m typical rows
 * of n; `own` [queries]: the row that a query is the gradient of, which is out of the ordinary and does not count.
 */
export function thresholds(products: Float64Array, m: number, n: number, own: Uint32Array): Float64Array {
  // The tenth of n is about the rank-th of the sample.
  const rank = Math.max(1, Math.round((ANSWERS * m) / n));
  return Float64Array.from(own, (row, query) => {
    const others = products.slice(query * m, (query + 1) * m);
    others[row] = 0;
    others.sort();
    return Math.min(others[m - rank]!, -others[rank - 1]!);
  });
}

/** What a product with A costs, against one of the head: of sixteen bits, it takes twice the instructions (measured: 15 and 30 · 10⁹ a second). */
const WIDE = 2;

/** What a query's product with A costs: the query is cut into two halves of fourteen bits, and each is multiplied with A's entries. */
export const queryProducts = (entries: number): number => 2 * WIDE * entries;

/** Products without a mixing: of all rows whose norm, times the query's, reaches the threshold. */
export function plainCost({ queries, rows, thresholds }: Trial, R: number, n: number): number {
  return (
    n *
    R *
    (reaching(lengths(queries, R, 0), lengths(rows, R, 0), thresholds).count / (thresholds.length * (rows.length / R)))
  );
}

/**
 * The cheapest head for mixed queries and rows, coordinates in the order of their places, where A has so many entries. Rows that reach the threshold by their norm are multiplied with the head, and those
 * that still reach it by the head's product and the tail's norm, with the tail.
 */
export function cheapestHead(trial: Trial, R: number, n: number, entries: number, heads: readonly number[]): Cost {
  const { queries, rows, thresholds } = trial;
  const { pairs, count } = reaching(lengths(queries, R, 0), lengths(rows, R, 0), thresholds);
  const perPair = n / (thresholds.length * (rows.length / R));
  const inner = new Float64Array(count);
  let before = 0;
  let best: Cost = { products: Number.POSITIVE_INFINITY, head: 0 };
  for (const head of heads) {
    const queryTails = lengths(queries, R, head);
    const rowTails = lengths(rows, R, head);
    let left = 0;
    for (let pair = 0; pair < count; pair++) {
      const query = pairs[2 * pair]!;
      const row = pairs[2 * pair + 1]!;
      let sum = inner[pair]!;
      for (let j = before; j < head; j++) sum += queries[query * R + j]! * rows[row * R + j]!;
      inner[pair] = sum;
      if (Math.abs(sum) + queryTails[query]! * rowTails[row]! >= thresholds[query]!) left++;
    }
    before = head;
    const products = queryProducts(entries) + perPair * (count * head + SCATTERED * left * (R - head));
    if (products < best.products) best = { products, head };
  }
  return best;
}

/** Pairs of a query and a row whose norms' product reaches the query's threshold: [count, 2]. */
function reaching(queryNorms: Float64Array, rowNorms: Float64Array, thresholds: Float64Array) {
  const pairs = new Uint32Array(2 * queryNorms.length * rowNorms.length);
  let count = 0;
  for (let query = 0; query < queryNorms.length; query++) {
    for (let row = 0; row < rowNorms.length; row++) {
      if (queryNorms[query]! * rowNorms[row]! < thresholds[query]!) continue;
      pairs[2 * count] = query;
      pairs[2 * count + 1] = row;
      count++;
    }
  }
  return { pairs, count };
}

/** Norms of the coordinates from `from` on, of each vector [R]. */
function lengths(vectors: Float64Array, R: number, from: number): Float64Array {
  const norms = new Float64Array(vectors.length / R);
  for (let i = 0; i < norms.length; i++) {
    let sum = 0;
    for (let j = i * R + from; j < (i + 1) * R; j++) sum += vectors[j]! * vectors[j]!;
    norms[i] = Math.sqrt(sum);
  }
  return norms;
}
