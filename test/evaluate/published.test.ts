/** Definitions against published cases with known answers. */
import { expect, test } from "vitest";
import { linearDatamodelingScore } from "../../offline/evaluate/lds.ts";
import { areaUnderCurve } from "../../offline/evaluate/statistics.ts";

test("AUC: of three flipped and three clean examples, 8 of 9 pairs in order is 8/9", () => {
  const flipped = [true, true, true, false, false, false];
  expect(areaUnderCurve([0.9, 0.8, 0.4, 0.5, 0.2, 0.1], flipped)).toBeCloseTo(8 / 9, 12);
});

test("LDS: 1.0 where summed influence orders the subsets as their losses do", () => {
  // Sums −5, −4, −3: the more helpful the half, the lower the loss.
  const subsets = [
    [0, 1],
    [0, 2],
    [1, 2],
  ];
  expect(linearDatamodelingScore([-3, -2, -1], subsets, [0.1, 0.2, 0.3])).toBeCloseTo(1, 12);
  expect(linearDatamodelingScore([3, 2, 1], subsets, [0.1, 0.2, 0.3])).toBeCloseTo(-1, 12);
});

test("LDS: 0.866 where two of three losses tie: ranks 1, 2, 3 against 1, 2½, 2½ correlate by √3/2", () => {
  const subsets = [
    [0, 1],
    [0, 2],
    [1, 2],
  ];
  expect(linearDatamodelingScore([-3, -2, -1], subsets, [0.1, 0.2, 0.2])).toBeCloseTo(Math.sqrt(3) / 2, 12);
});
