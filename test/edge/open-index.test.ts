import fc from "fast-check";
import { expect, test } from "vitest";
import { FILES, type Manifest, manifestSchema } from "../../src/core/manifest.ts";
import { leastBytes, whatFits } from "../../src/open-index.ts";
import { fileOf } from "./bucket.ts";

/** What the manifest of an index of n rows and R coordinates would be. */
function manifestOf(n: number, dimension: number): Manifest {
  const { layers, ...rest } = manifestSchema.parse(
    JSON.parse(new TextDecoder().decode(fileOf("digits", FILES.manifest))),
  );
  return { ...rest, n, dimension, layers: layers.slice(0, 1) };
}

test("what is held of an index fits, and beside a coarse plane alone the longest rows take what is left", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 10_000, max: 200_000 }),
      fc.integer({ min: 256, max: 4096 }),
      fc.integer({ min: 0, max: 100_000_000 }),
      (n, R, spare) => {
        const manifest = manifestOf(n, R);
        const available = leastBytes(manifest) + spare;
        const { tier, longest, bytes } = whatFits(manifest, available);
        expect(bytes).toBeLessThanOrEqual(available);
        if (tier !== "coarse") return;
        const allOfThem = Math.ceil(n / 4);
        expect(longest).toBeLessThanOrEqual(allOfThem);
        if (longest < allOfThem) expect(available - bytes).toBeLessThan(4 * R + 3 * 65536);
      },
    ),
  );
});

test("the richest of what fits is held", () => {
  const manifest = manifestOf(60_000, 512);
  expect([60e6, 80e6, 200e6].map((available) => whatFits(manifest, available).tier)).toEqual([
    "coarse",
    "fine",
    "rows",
  ]);
  expect(whatFits(manifest, 60e6).longest).toBeGreaterThan(5_000);
});
