/** Selecting the k best of both ends, from intervals and from truths. */

/** One training example and its signed influence on the query's loss (eq. 4): − g̃_q · p_row. */
export interface Neighbour {
  row: number;
  influence: number;
}

/** The best rows of one end so far: `bound` is the k-th largest value offered, or `floor` while fewer than k exceed it. */
export interface Best {
  readonly bound: number;
  offer(value: number): void;
}

/** The k-th largest of the values offered that exceed `floor`: a binary heap of k values, the least on top. */
export function kthLargest(k: number, floor: number): Best {
  let heap = new Float64Array(Math.min(k, 1024));
  let size = 0;
  const up = (value: number) => {
    let at = size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent] <= value) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = value;
  };
  const replaceLeast = (value: number) => {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= value) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = value;
  };
  return {
    get bound() {
      return size === k ? heap[0] : floor;
    },
    offer(value) {
      if (value <= floor) return;
      if (size === k) {
        if (value > heap[0]) replaceLeast(value);
        return;
      }
      if (size === heap.length) {
        const larger = new Float64Array(Math.min(k, 2 * size));
        larger.set(heap);
        heap = larger;
      }
      up(value);
    },
  };
}

/** Rows, by their places in the planes, with an interval dot ± width each. */
export interface Candidates {
  places: number[];
  dots: number[];
  widths: number[];
}

/** Whether an interval reaches `high`, the k-th largest dot − width, above zero, or `low`, the k-th least dot + width, below. */
export const reaches = (dot: number, width: number, high: number, low: number): boolean =>
  (dot + width > 0 && dot + width >= high) || (dot - width < 0 && dot - width <= low);

/** The candidates that do not provably miss both ends. */
export function keepReaching(candidates: Candidates, high: number, low: number): Candidates {
  const kept: Candidates = { places: [], dots: [], widths: [] };
  for (let index = 0; index < candidates.places.length; index++) {
    const dot = candidates.dots[index];
    const width = candidates.widths[index];
    if (!reaches(dot, width, high, low)) continue;
    kept.places.push(candidates.places[index]);
    kept.dots.push(dot);
    kept.widths.push(width);
  }
  return kept;
}

/** Drops what the candidates' own intervals exclude. */
export function prune(candidates: Candidates, k: number): Candidates {
  const high = kthLargest(k, 0);
  const low = kthLargest(k, 0);
  for (let index = 0; index < candidates.places.length; index++) {
    high.offer(candidates.dots[index] - candidates.widths[index]);
    low.offer(-(candidates.dots[index] + candidates.widths[index]));
  }
  return keepReaching(candidates, high.bound, -low.bound);
}

/** The k rows of the largest `sign · dot` above zero, largest first, ties by row. */
export function best(rows: readonly number[], dots: ArrayLike<number>, k: number, sign: 1 | -1): Neighbour[] {
  const found: Neighbour[] = [];
  for (let index = 0; index < rows.length; index++) {
    if (sign * dots[index] > 0) found.push({ row: rows[index], influence: -dots[index] });
  }
  found.sort((a, b) => sign * (a.influence - b.influence) || a.row - b.row);
  if (found.length > k) found.length = k;
  return found;
}
