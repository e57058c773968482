import fc from "fast-check";
import { expect, test } from "vitest";
import { mostRows, parseBytes, plan, planLines } from "../../offline/index/plan.ts";
import { addressesOf, chooseTier } from "../../src/core/resident.ts";

const rows = fc.integer({ min: 1, max: 3_000_000 });
const bytes = fc.integer({ min: 1_000, max: 2_000_000_000 });

test("a plan's R is the largest that fits, and is opened with that tier or a richer one", () => {
  fc.assert(
    fc.property(rows, bytes, (n, budget) => {
      const order = ["rows", "fine", "coarse"];
      for (const { tier, dimension, bytes: needed } of plan(n, budget)) {
        expect(needed).toBeLessThanOrEqual(budget);
        if (dimension > 0 && needed < 2 ** 32) {
          expect(order.indexOf(chooseTier(n, dimension, budget))).toBeLessThanOrEqual(order.indexOf(tier));
        }
        if (dimension < 131_072) expect(addressesOf(n, dimension + 1, tier).end).toBeGreaterThan(budget);
      }
    }),
  );
});

test("as many rows as are promised fit, and not one more", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8192 }), bytes, (R, budget) => {
      const n = mostRows(R, budget, "coarse");
      if (n > 0) expect(addressesOf(n, R, "coarse").end).toBeLessThanOrEqual(budget);
      expect(addressesOf(n + 1, R, "coarse").end).toBeGreaterThan(budget);
    }),
  );
});

test("a plan reads as text", () => {
  expect(planLines(60_000, 80_000_000).join("\n")).toMatch(
    /^rows: R ≤ \d+ in [\d.]+ MB; .*\nfine: R ≤ \d+ .*\ncoarse: R ≤ \d+ /,
  );
  expect(planLines(3_000_000, 1_000)).toEqual(["rows: nothing fits", "fine: nothing fits", "coarse: nothing fits"]);
});

test("memory is read as people write it", () => {
  expect(["64MB", "1.5 GB", "1000", "3kB"].map(parseBytes)).toEqual([64e6, 1.5e9, 1000, 3000]);
  for (const text of ["", "MB", "-1MB", "64TB", "6,4MB"]) expect(() => parseBytes(text)).toThrow("memory: expected");
});
