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
import { choose, dimensionFor, mostRows, plan, planLines, takenAtMost } from "../../offline/index/plan.ts";
import { FILES, type MixingShape } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { addressesOf, chooseTier, fitting } from "../../src/core/resident.ts";
import { buildIndex, manifestOf } from "./built-index.ts";
import { correlatedRun } from "./correlated-run.ts";

/** Every mixing that an index of R coordinates may get, and none. */
const mixings = (R: number): fc.Arbitrary<MixingShape | null> => {
  const widths = fc.oneof(
    ...(R <= 512 ? [fc.constant<number[]>([R])] : []),
    fc.array(fc.integer({ min: 1, max: 256 }), { minLength: 1, maxLength: 20 }).map((some) => {
      const blocks: number[] = [];
      for (let left = R; left > 0; left -= blocks.at(-1)!)
        blocks.push(Math.min(left, some[blocks.length % some.length]!));
      return blocks;
    }),
  );
  const heads = fc.integer({ min: 1, max: Math.max(1, Math.ceil(R / 16) - 1) }).map((sixteens) => 16 * sixteens);
  const mixed = fc.record({ blocks: widths, head: heads });
  return R < 64 ? fc.constant(null) : fc.oneof(fc.constant(null), mixed);
};

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
        if (dimension < 131_072) expect(takenAtMost(n, dimension + 1, tier).end).toBeGreaterThan(budget);
      }
    }),
  );
});

test("no mixing takes more than is planned for, whatever its blocks and its head", () => {
  const indexes = fc
    .tuple(fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: 1, max: 5000 }))
    .chain(([n, R]) => mixings(R).map((mixing) => ({ n, R, mixing })));
  fc.assert(
    fc.property(indexes, fc.constantFrom("rows", "fine", "coarse"), ({ n, R, mixing }, tier) => {
      const least = addressesOf(n, R, tier, 0, mixing);
      const most = takenAtMost(n, R, tier);
      expect(least.end).toBeLessThanOrEqual(most.end);
      expect(least.memoryBytes).toBeLessThanOrEqual(most.memoryBytes);
    }),
  );
});

test("what is chosen for an R is held, however its index is mixed", () => {
  const order = ["rows", "fine", "coarse"];
  const indexes = fc
    .tuple(fc.integer({ min: 1, max: 300_000 }), fc.integer({ min: 1, max: 2048 }), fc.integer({ min: 1e6, max: 4e8 }))
    .chain(([n, R, budget]) => mixings(R).map((mixing) => ({ n, R, budget, mixing })));
  fc.assert(
    fc.property(indexes, ({ n, R, budget, mixing }) => {
      const { tier, longest, bytes } = choose(n, R, budget);
      if (tier === null) return;
      expect(bytes).toBeLessThanOrEqual(budget);
      const opened = fitting(n, R, budget, mixing);
      expect(order.indexOf(opened.tier)).toBeLessThanOrEqual(order.indexOf(tier));
      if (opened.tier === "coarse") expect(opened.longest).toBeGreaterThanOrEqual(longest);
    }),
  );
});

test("as many rows as are promised fit, and not one more", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8192 }), bytes, (R, budget) => {
      const n = mostRows(R, budget, "coarse");
      if (n > 0) expect(takenAtMost(n, R, "coarse").end).toBeLessThanOrEqual(budget);
      expect(takenAtMost(n + 1, R, "coarse").end).toBeGreaterThan(budget);
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

test("R is chosen as large as fits with the longest rows, mixed in any way, and never beyond what the model has", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300_000 }),
      fc.integer({ min: 20_000_000, max: 2_000_000_000 }),
      fc.gen(),
      (n, budget, draw) => {
        fc.pre(takenAtMost(n, 16, "fine").end <= budget);
        const R = dimensionFor(n, budget, 131_072);
        expect(["rows", "fine"]).toContain(chooseTier(n, R, budget, draw(mixings, R)));
        if (R < 131_072) expect(takenAtMost(n, R + 16, "fine").end).toBeGreaterThan(budget);
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
  expect(takenAtMost(60_000, total, "fine").memoryBytes).toBeLessThan(2 ** 32);
  expect(takenAtMost(60_000, total + 16, "fine").memoryBytes).toBeGreaterThan(2 ** 32 - 65_536);
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
  const least = takenAtMost(n, R, "coarse").end;
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

test("what a plan costs is measured on mixed parts where the run's gradients are there", async () => {
  const run = await correlatedRun();
  const memory = addressesOf(run.n, run.R, "rows", 0, run.manifest.mixing).end;
  const mixed = await measurePlan(run.folder, run.manifest, run.n, memory);
  await rm(path.join(run.folder, "..", "collect"), { recursive: true });
  const plain = await measurePlan(run.folder, run.manifest, run.n, memory);
  await run.remove();
  expect(mixed).toMatchObject([
    { dimension: 128, held: "rows" },
    { dimension: 64, held: "rows" },
  ]);
  expect(plain[0]).toEqual(mixed[0]);
  expect(plain[1]?.bytes).toBe(addressesOf(run.n, 64, "rows").end);
  expect(mixed[1]?.bytes).toBeGreaterThan(plain[1]!.bytes);
});
