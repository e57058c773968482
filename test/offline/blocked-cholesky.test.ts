import { describe, expect, test } from "vitest";
import { positiveDefiniteInverse } from "../../offline/hessian/blocked-cholesky.ts";
import { cholesky, inverseFromFactor, PivotError } from "../../offline/hessian/cholesky.ts";
import { largestEigenvalue } from "../../offline/hessian/fit.ts";
import { random } from "../../src/core/random.ts";

/** B Bᵀ/r + 0.1 I of a random B. */
function positiveDefinite(r: number): Float64Array {
  const { normal } = random(1, "cholesky");
  const b = Float64Array.from({ length: r * r }, normal);
  const a = new Float64Array(r * r);
  for (let i = 0; i < r; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 0.1 : 0;
      for (let k = 0; k < r; k++) sum += (b[i * r + k]! * b[j * r + k]!) / r;
      a[i * r + j] = sum;
      a[j * r + i] = sum;
    }
  }
  return a;
}

describe("the blocked inverse", () => {
  // 700 is one whole block and a part, 1,100 two and a part: every kind of product occurs.
  for (const r of [700, 1100]) {
    test(`equals the unblocked one at r = ${r}`, async () => {
      const a = positiveDefinite(r);
      const expected = inverseFromFactor(cholesky(a, r), r);
      const got = await positiveDefiniteInverse(a, r);
      const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
      expect(worst / scale).toBeLessThan(1e-11);
      for (let i = 0; i < r; i += 97) for (let j = 0; j < i; j += 89) expect(got[i * r + j]).toBe(got[j * r + i]);
    });
  }

  test("refuses a pivot in a later block by its row in the whole", async () => {
    const a = positiveDefinite(700);
    a[650 * 700 + 650] = -1;
    await expect(positiveDefiniteInverse(a, 700)).rejects.toMatchObject({ name: PivotError.name, row: 650 });
  });
});

test("the largest eigenvalue of a diagonal matrix is its largest entry", () => {
  const diagonal = Float64Array.from({ length: 25 }, (_, at) => (at % 6 === 0 ? 1 + at : 0));
  expect(largestEigenvalue(diagonal, 5)).toBeCloseTo(25, 1);
});
