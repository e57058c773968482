import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { byteCount } from "../../offline/command/arguments.ts";
import { readConfig } from "../../offline/command/config.ts";
import { fittedTo } from "../../offline/command/fitted.ts";
import { ALONE } from "../../offline/command/run.ts";
import { measurePlan } from "../../offline/index/measure-plan.ts";
import { dimensionFor, mostRows, plan, planLines } from "../../offline/index/plan.ts";
import { FILES } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { addressesOf, chooseTier } from "../../src/core/resident.ts";
import { buildIndex, manifestOf } from "./built-index.ts";

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
  expect(["64MB", "1.5 GB", "1000", "3kB"].map(byteCount)).toEqual([64e6, 1.5e9, 1000, 3000]);
  for (const text of ["", "MB", "-1MB", "64TB", "6,4MB"])
    expect(() => byteCount(text)).toThrow("expected a size such as");
});

test("R is chosen as large as fits with the longest rows, and never beyond what the model has", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300_000 }),
      fc.integer({ min: 20_000_000, max: 2_000_000_000 }),
      (n, budget) => {
        fc.pre(addressesOf(n, 16, "fine").end <= budget);
        const R = dimensionFor(n, budget, 131_072);
        expect(addressesOf(n, R, "fine").end).toBeLessThanOrEqual(budget);
        if (R < 131_072) expect(addressesOf(n, R + 16, "fine").end).toBeGreaterThan(budget);
        expect(dimensionFor(n, budget, 7)).toBe(7);
      },
    ),
  );
  expect(() => dimensionFor(1_000_000, 1_000_000, 512)).toThrow("expected room for 1000000 rows");
});

test("a build within so much memory takes the largest R, whatever its configuration says", async () => {
  const said: string[] = [];
  const step = () => ({ advance: () => undefined, done: () => undefined });
  const progress = { step, skipped: () => undefined, note: (line: string) => said.push(line.trim()) };
  const config = readConfig("fixtures/mnist-cnn/influence.yaml");
  const folder = await mkdtemp(path.join(tmpdir(), "fitted-"));
  const run = { ...ALONE, config, folder, progress };
  const [some, all] = [await fittedTo(run, 64_000_000), await fittedTo(run, 1e12)];
  expect(some.config.r).toEqual({ total: dimensionFor(60_000, 64_000_000, 52_138) });
  expect(said.slice(0, 2)).toEqual([
    expect.stringMatching(/^R = 480: fine in [\d.]+ MB; /),
    expect.stringContaining("r: { total: 480 }"),
  ]);
  // What a 32-bit memory can address.
  const { total } = { total: 0, ...all.config.r };
  expect(addressesOf(60_000, total, "fine").memoryBytes).toBeLessThan(2 ** 32);
  expect(addressesOf(60_000, total + 16, "fine").memoryBytes).toBeGreaterThan(2 ** 32 - 65_536);
  const { model: _, ...imported } = config;
  await expect(fittedTo({ ...run, config: imported }, 64_000_000)).rejects.toThrow(
    "expected a model whose R can be chosen",
  );
  await rm(folder, { recursive: true });
});

test("what a plan costs is measured on an index's own vectors", async () => {
  const [n, R, m] = [7000, 128, 10];
  const generator = random(8, "plan");
  const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
  const index = await buildIndex(normal(n * R), R);
  await writeFile(path.join(index.folder, FILES.queries), normal(m * R));
  const manifest = { ...(await manifestOf(index.folder, n, R)), queries: m };
  const least = addressesOf(n, R, "coarse").end;
  const costs = await measurePlan(index.folder, manifest, n, least);
  expect(costs).toMatchObject([{ dimension: 128, held: "coarse" }, { dimension: 64 }]);
  expect(costs[0].read).toBeGreaterThan(0);
  for (const { rescored, bytes } of costs) {
    // The top ten of both ends at least.
    expect(rescored).toBeGreaterThanOrEqual((100 * 20) / n);
    expect(rescored).toBeLessThan(100);
    expect(bytes).toBeLessThanOrEqual(least);
  }
  const [all] = await measurePlan(index.folder, manifest, n, 1e9);
  expect(all).toMatchObject({ held: "rows", read: 0 });
  expect(await measurePlan(index.folder, manifest, 10 * n, least)).toMatchObject([{ held: null }, { held: null }]);
  await index.remove();
});
