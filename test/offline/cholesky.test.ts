import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cholesky, inverseFromFactor, PivotError, solveWithFactor } from "../../offline/hessian/cholesky.ts";

/** A = B Bᵀ + I: symmetric positive definite with a smallest eigenvalue of at least 1. */
const positiveDefinite = fc.integer({ min: 1, max: 24 }).chain((r) =>
  fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: r * r, maxLength: r * r }).map((entries) => {
    const a = new Float64Array(r * r);
    for (let i = 0; i < r; i++) {
      for (let j = 0; j < r; j++) {
        let sum = i === j ? 1 : 0;
        for (let k = 0; k < r; k++) sum += entries[i * r + k]! * entries[j * r + k]!;
        a[i * r + j] = sum;
      }
    }
    return { r, a };
  }),
);

const product = (a: Float64Array, b: Float64Array, r: number) =>
  Float64Array.from({ length: r * r }, (_, at) => {
    let sum = 0;
    for (let k = 0; k < r; k++) sum += a[Math.floor(at / r) * r + k]! * b[k * r + (at % r)]!;
    return sum;
  });

describe("Cholesky", () => {
  test("A · A⁻¹ is the identity, and a solve agrees with the inverse", () => {
    fc.assert(
      fc.property(positiveDefinite, ({ r, a }) => {
        const factor = cholesky(a, r);
        const inverse = inverseFromFactor(factor, r);
        product(a, inverse, r).forEach((value, at) => {
          expect(value).toBeCloseTo(Math.floor(at / r) === at % r ? 1 : 0, 9);
        });
        const b = Float64Array.from({ length: r }, (_, i) => Math.sin(i + 1));
        solveWithFactor(factor, r, b).forEach((value, i) => {
          let expected = 0;
          for (let j = 0; j < r; j++) expected += inverse[i * r + j]! * b[j]!;
          expect(value).toBeCloseTo(expected, 9);
        });
      }),
      { numRuns: 50 },
    );
  });

  test("a matrix that is not positive definite is refused at its pivot", () => {
    expect(() => cholesky(Float64Array.of(1, 0, 0, -1), 2)).toThrow(new PivotError(1, -1));
    expect(() => cholesky(Float64Array.of(Number.NaN), 1)).toThrow(PivotError);
  });
});
