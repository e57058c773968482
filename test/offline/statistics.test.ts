import { describe, expect, test } from "vitest";
import { areaUnderCurve, overlapOfSmallest, quantile, ranks, spearman } from "../../offline/evaluate/statistics.ts";

describe("rank statistics against cases worked by hand", () => {
  test("equal values share the mean of their ranks", () => {
    expect([...ranks([10, 20, 20, 5])]).toEqual([2, 3.5, 3.5, 1]);
  });

  test("Spearman: reversed order is −1; one swap among four is 1 − 6·2/(4·15) = 0.8", () => {
    expect(spearman([1, 2, 3, 4], [9, 7, 5, 3])).toBeCloseTo(-1, 12);
    expect(spearman([1, 2, 3, 4], [1, 2, 4, 3])).toBeCloseTo(0.8, 12);
    expect(spearman([1, 1, 1], [1, 2, 3])).toBe(0);
  });

  test("AUC: of 3 × 3 pairs, 8 in order is 8/9; all equal is one half", () => {
    expect(areaUnderCurve([0.9, 0.8, 0.4, 0.5, 0.2, 0.1], [true, true, true, false, false, false])).toBeCloseTo(
      8 / 9,
      12,
    );
    expect(areaUnderCurve([1, 1, 1, 1], [true, false, true, false])).toBe(0.5);
  });

  test("top-k overlap counts the members that both lists share", () => {
    expect(overlapOfSmallest([1, 2, 3, 4], [1, 3, 2, 4], 2)).toBe(0.5);
  });

  test("quantiles interpolate between order statistics", () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([1, 2, 3], 1)).toBe(3);
  });
});
