/** Rank statistics that the evaluations report. */

/** Ranks 1 … n of the values, ascending; equal values share the mean of their ranks. */
export function ranks(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, index) => index).sort((a, b) => values[a]! - values[b]!);
  const result = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start;
    while (end + 1 < order.length && values[order[end + 1]!] === values[order[start]!]) end++;
    for (let at = start; at <= end; at++) result[order[at]!] = (start + end) / 2 + 1;
    start = end + 1;
  }
  return result;
}

/** Pearson's correlation; 0 when either side is constant. */
export function pearson(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = a.length;
  let meanA = 0;
  let meanB = 0;
  for (let i = 0; i < n; i++) {
    meanA += a[i]! / n;
    meanB += b[i]! / n;
  }
  let ab = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < n; i++) {
    ab += (a[i]! - meanA) * (b[i]! - meanB);
    aa += (a[i]! - meanA) ** 2;
    bb += (b[i]! - meanB) ** 2;
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : 0;
}

/** Spearman's rank correlation, ties by mean rank. */
export function spearman(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return pearson(ranks(a), ranks(b));
}

/** Area under the ROC curve: the chance that a positive scores above a negative, ties half (Mann-Whitney). NaN without both kinds. */
export function areaUnderCurve(scores: ArrayLike<number>, positive: ArrayLike<boolean>): number {
  const rank = ranks(scores);
  let sum = 0;
  let positives = 0;
  for (let i = 0; i < rank.length; i++) {
    if (positive[i]) {
      sum += rank[i]!;
      positives++;
    }
  }
  const negatives = rank.length - positives;
  return (sum - (positives * (positives + 1)) / 2) / (positives * negatives);
}

/** Indices of the k smallest values, smallest first, ties by index. */
export function smallest(values: ArrayLike<number>, k: number): number[] {
  return Array.from({ length: values.length }, (_, index) => index)
    .sort((a, b) => values[a]! - values[b]! || a - b)
    .slice(0, k);
}

/** Share of the k smallest of `a` that are among the k smallest of `b`. */
export function overlapOfSmallest(a: ArrayLike<number>, b: ArrayLike<number>, k: number): number {
  const others = new Set(smallest(b, k));
  return smallest(a, k).filter((index) => others.has(index)).length / k;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The q-quantile by linear interpolation between order statistics. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low]! + (sorted[Math.ceil(at)]! - sorted[low]!) * (at - low);
}
