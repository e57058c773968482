import { expect, test } from "vitest";
import { betterCompressor, foundOfTen, verdictOf } from "../../offline/evaluate/trust.ts";
import type { Fidelity } from "../../src/core/manifest.ts";

const alike = (top10: number, spearman = top10) => ({
  spearman,
  top10Helpful: top10,
  top10Harmful: top10,
  top100Helpful: top10,
  top100Harmful: top10,
});

const measured = (changes: Partial<Fidelity> = {}): Fidelity => ({
  verdict: "",
  examples: 500,
  queries: 20,
  agreement: alike(0.86, 0.9),
  betweenSeeds: alike(0.91),
  sizes: [
    { dimension: 64, ...alike(0.6) },
    { dimension: 256, ...alike(0.86, 0.9) },
    { dimension: 1024, ...alike(0.95) },
  ],
  compressors: [
    { kind: "uniform", ...alike(0.86, 0.9) },
    { kind: "importance", ...alike(0.88) },
  ],
  layers: [{ name: "fc", share: 1, spearman: 0.9, top10Helpful: 0.9, condition: 100 }],
  ...changes,
});

test("of ten: both ends of the list count alike", () => {
  expect(foundOfTen({ top10Helpful: 1, top10Harmful: 0.5 })).toBe(7.5);
});

test("a good index: what is found, what chance decides, and which R suffices", () => {
  expect(verdictOf(measured())).toBe(
    "On a sample of 500 examples, of the ten truly most influential 8.6 are found on average: the top of the lists can be trusted, and the ranking below it agrees well (correlation 0.90). " +
      "Two draws with different seeds have 9.1 of ten in common. " +
      "R = 256 is enough (8.6 of ten), R = 64 is not (6.0 of ten).",
  );
});

test("when every size that was tried suffices, the smallest is named; when none does, the largest", () => {
  const sizes = (tops: number[]) => tops.map((top, at) => ({ dimension: 4 ** (at + 3), ...alike(top) }));
  expect(verdictOf(measured({ sizes: sizes([0.81, 0.9]) }))).toContain("R = 64 is already enough (8.1 of ten).");
  expect(verdictOf(measured({ sizes: sizes([0.2, 0.79]) }))).toContain(
    "Of this compressor not even R = 256 is enough (7.9 of ten).",
  );
});

test("a compressor that does clearly better is named with its figures; one that hardly does is not", () => {
  expect(betterCompressor(measured())).toBeNull();
  const poor = measured({
    agreement: alike(0.34, 0.28),
    compressors: [
      { kind: "uniform", ...alike(0.34, 0.28) },
      { kind: "grid", ...alike(0.3) },
      { kind: "eigenbasis", ...alike(0.9, 0.95) },
      { kind: "importance", ...alike(0.6) },
    ],
  });
  expect(betterCompressor(poor)?.kind).toBe("eigenbasis");
  expect(verdictOf(poor)).toContain(
    "3.4 are found on average: the lists cannot be trusted, and the ranking below it is noise",
  );
  expect(verdictOf(poor)).toContain(
    "`compressor: eigenbasis` does better on this model at the same R: 9.0 of ten, correlation 0.95 (uniform: 3.4, 0.28).",
  );
});

test("a layer that has collapsed is named though the total looks well, unless it carries next to nothing", () => {
  const layer = (name: string, share: number, spearman: number) => ({
    name,
    share,
    spearman,
    top10Helpful: spearman,
    condition: 10,
  });
  const said = verdictOf(
    measured({ layers: [layer("head", 0.59, 0.99), layer("embedding", 0.4, 0.17), layer("norm", 0.01, 0.1)] }),
  );
  expect(said).toContain(
    "Layer embedding has collapsed: its own ranking agrees only 0.17, and it carries 40 % of the influence.",
  );
  expect(said).not.toContain("norm");
});
