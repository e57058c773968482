/**
 * Random indexes and queries against brute force. CASES sets how many; 10,000 take some minutes.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { KERNEL_FILES, type KernelFile, loadKernel } from "../../offline/serve/kernel.ts";
import { longRows } from "../../src/core/plane.ts";
import { prepareQuery } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { loadResident, type Tier } from "../../src/core/resident.ts";
import { narrow, scanAll } from "../../src/core/scan.ts";
import { openTier, rowBitmap } from "../../src/core/search.ts";
import { buildIndex } from "./built-index.ts";
import { bruteForce, bruteForceDots } from "./oracle.ts";
import { randomMixing } from "./random-mixing.ts";

const CASES = Number(process.env.CASES ?? 200);
const TIERS: Tier[] = ["rows", "fine", "coarse"];
const kernels = new Map(KERNEL_FILES.map((file) => [file, loadKernel(file)]));

/** What a random index is made of. Scales are powers of ten; a coordinate's and a row's multiply. */
interface Case {
  n: number;
  R: number;
  k: number;
  seed: number;
  values: "normal" | "small integers" | "sparse";
  rowScales: number[];
  coordinateScales: number[];
  queryScale: number;
  /** Of the rows: how many repeat an earlier one, its negative, or are zero. */
  repeated: number;
  query: "normal" | "a row" | "sparse" | "zero" | "small integers";
  filtered: boolean;
  /** Whether coordinates are mixed, where there are enough, by a matrix that has nothing to do with the rows. */
  mixed: boolean;
  tier: Tier;
  /** Beside the coarse plane alone, the share of long.f32 that is held. */
  longest: number;
  kernel: KernelFile;
}

const scale = fc.integer({ min: -30, max: 30 });
const scales = fc.oneof(fc.constant<number[]>([0]), fc.array(scale, { minLength: 1, maxLength: 4 }));
const cases: fc.Arbitrary<Case> = fc.record({
  n: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 400 })),
  R: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 100 }), fc.constantFrom(64, 127, 128, 129)),
  k: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 500 })),
  seed: fc.nat(),
  values: fc.constantFrom("normal", "small integers", "sparse"),
  rowScales: scales,
  coordinateScales: scales,
  queryScale: scale,
  repeated: fc.constantFrom(0, 0.1, 0.9),
  query: fc.constantFrom("normal", "normal", "a row", "sparse", "zero", "small integers"),
  filtered: fc.boolean(),
  mixed: fc.boolean(),
  tier: fc.constantFrom(...TIERS),
  longest: fc.constantFrom(0, 0.5, 1),
  kernel: fc.constantFrom(...KERNEL_FILES),
});

test(`the answer is brute force's, ids, order and influences, and proved so, in ${CASES} random cases`, async () => {
  await fc.assert(fc.asyncProperty(cases, holds), { numRuns: CASES, endOnFailure: false });
}, 1_800_000);

test(`every interval of both planes holds its truth, in ${CASES} random cases`, async () => {
  await fc.assert(fc.asyncProperty(cases, intervalsHold), { numRuns: CASES, endOnFailure: false });
}, 1_800_000);

/** The rows, the query and the rest that a case stands for. */
function make(drawn: Case) {
  const { n, R } = drawn;
  const generator = random(drawn.seed, "properties");
  const draw = (kind: Case["values"]) => {
    if (kind === "small integers") return generator.below(5) - 2;
    return kind === "sparse" && generator.below(8) > 0 ? 0 : generator.normal();
  };
  const rows = new Float32Array(n * R);
  for (let row = 0; row < n; row++) {
    const earlier = row > 0 && generator.unit() < drawn.repeated ? generator.below(row) : -1;
    const sign = [1, -1, 0][generator.below(3)];
    const rowScale = 10 ** drawn.rowScales[generator.below(drawn.rowScales.length)];
    for (let j = 0; j < R; j++) {
      const fresh = draw(drawn.values) * rowScale * 10 ** drawn.coordinateScales[j % drawn.coordinateScales.length];
      rows[row * R + j] = finite(earlier < 0 ? fresh : sign * rows[earlier * R + j]);
    }
  }
  const pattern = rows.slice(R * generator.below(n)).subarray(0, R);
  const kind = drawn.query === "small integers" || drawn.query === "sparse" ? drawn.query : "normal";
  const gradient = Float32Array.from({ length: R }, (_, j) => {
    if (drawn.query === "zero") return 0;
    return drawn.query === "a row" ? pattern[j] : finite(draw(kind) * 10 ** drawn.queryScale);
  });
  const meanSquare = Float64Array.from({ length: R }, () => (generator.below(4) === 0 ? 0 : generator.unit()));
  const all = Array.from({ length: n }, (_, row) => row);
  const chosen = new Set(all.filter(() => !drawn.filtered || generator.below(3) === 0));
  const mix = () => (drawn.mixed && R > 16 ? randomMixing(R, random(drawn.seed, "mixing")) : null);
  return { rows, gradient, meanSquare, chosen, mix };
}

async function holds(drawn: Case): Promise<void> {
  const { n, R, k, tier } = drawn;
  const { rows, gradient, meanSquare, chosen, mix } = make(drawn);
  const longest = tier === "coarse" ? Math.floor(drawn.longest * longRows(n)) : 0;
  const index = await buildIndex(rows, R, meanSquare, mix);
  try {
    const searcher = await openTier(index.manifest, index.source, kernels.get(drawn.kernel)!, tier, longest);
    const filter = drawn.filtered ? rowBitmap(n, chosen) : undefined;
    const answer = await searcher.search(gradient, k, filter);
    const expected = bruteForce(rows, gradient, k, (row) => chosen.has(row));
    expect(answer.helpful).toEqual(expected.helpful);
    expect(answer.harmful).toEqual(expected.harmful);
    expect(answer.exact).toBe(true);
  } finally {
    await index.remove();
  }
}

async function intervalsHold(drawn: Case): Promise<void> {
  const { rows, gradient, meanSquare, mix } = make(drawn);
  const index = await buildIndex(rows, drawn.R, meanSquare, mix);
  try {
    const resident = await loadResident(index.manifest, index.source, kernels.get(drawn.kernel)!, "fine");
    const query = prepareQuery(resident, gradient, 0);
    if (query === null) return;
    const truths = bruteForceDots(rows, gradient);
    scanAll(resident, query, null, (part) => {
      const planes = resident.held === "fine" ? [part, narrow(resident, query, part)] : [part];
      for (const { places, dots, widths } of planes) {
        places.forEach((place, at) => {
          const distance = Math.abs(truths[resident.order[place]] / query.unit - dots[at]);
          if (!(distance <= widths[at]))
            throw new Error(`row ${resident.order[place]}: ${distance} exceeds ${widths[at]}`);
        });
      }
    });
  } finally {
    await index.remove();
  }
}

/** As a float32 that is not infinite. */
const finite = (value: number): number => Math.max(-3e38, Math.min(3e38, value));
