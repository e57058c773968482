/** A query that an index mixes: what the kernel makes of it, against plain float64 products with the mixing's entries. */
import { describe, expect, onTestFinished, test } from "vitest";
import type { MixingDesign } from "../../offline/index/mixing.ts";
import { KERNEL_FILES, type KernelFile, loadKernel } from "../../offline/serve/kernel.ts";
import { drawBasis, rotate } from "../../src/core/basis.ts";
import { QUERY_LIMIT, QUERY_OFFSET, SLOT } from "../../src/core/kernel/kernel.ts";
import { columnBytes } from "../../src/core/mixing.ts";
import { strideOf } from "../../src/core/plane.ts";
import { prepareQuery, slotAt } from "../../src/core/query.ts";
import { type Random, random } from "../../src/core/random.ts";
import { loadResident, type Resident } from "../../src/core/resident.ts";
import { buildIndex } from "./built-index.ts";
import { plainMix, plainQuery } from "./plain-kernel.ts";

/** R, the head's width, and the blocks' widths: below, at and above whole sixteens, and the widest there may be. */
const SHAPES: [number, number, number[]][] = [
  [33, 16, [1, 2, 15, 15]],
  [64, 48, [16, 17, 15, 16]],
  [200, 96, [144, 2, 17, 1, 36]],
  [512, 256, [512]],
  [700, 112, [512, 144, 17, 16, 2, 1, 8]],
];

describe.each(KERNEL_FILES)("%s", (file) => {
  test.each(SHAPES)("mixes a query of R = %i coordinates, a head of %i, blocks of %j", async (R, head, blocks) => {
    const generator = random(R, "mixed-query");
    const design = entriesAtRandom(blocks, head, generator);
    const resident = await residentOf(file, design, generator);
    const basis = drawBasis(resident.basis.exponents.slice(), 7, head);
    for (const scale of [1e-30, 1, 1e30]) {
      const gradient = Float32Array.from({ length: R }, () => scale * generator.normal());
      const compiled = prepared(file, resident, gradient);
      const plain = plainQuery(basis, gradient, design)!;
      expect(compiled.unit / plain.unit).toBeCloseTo(1, 12);
      expect(farthest(compiled.rotated, plain.rotated)).toBeLessThan(1e-8);
      expect(compiled.codes.subarray(0, R)).toEqual(plain.codes);
      expect([...compiled.codes.subarray(R), ...compiled.rotated.subarray(R)].every((value) => value === 0)).toBe(true);
      for (const term of ["residualFactor", "highFactor", "headScaleFactor", "headHighFactor", "tailFactor"] as const) {
        expect(compiled[term] / plain[term]).toBeCloseTo(1, 11);
      }
      const rounding = (4 * R + 256) * 2 ** -53 * plain.residualFactor;
      const normFactor = plain.normFactor + rounding + plain.mixingLoss;
      expect(compiled.normFactor).toBeGreaterThanOrEqual(normFactor * (1 - 1e-12));
      expect(compiled.normFactor).toBeLessThanOrEqual(normFactor * (1 + 2e-6));

      // The query itself, which the kernel rounds before it mixes it.
      const exact = plainMix(
        design.mixing,
        Float64Array.from(gradient, (value, j) => value * basis.scales[j]),
      );
      const length = (values: Float64Array) => Math.hypot(...values);
      const parts = [length(exact.subarray(0, head)), length(exact.subarray(head))];
      rotate(basis, exact);
      const inUnits = exact.map((value) => value / compiled.unit);
      expect(farthest(compiled.rotated, inUnits)).toBeLessThan(1e-7 * QUERY_LIMIT);
      expect(length(inUnits.map((value, j) => value - compiled.rotated[j]))).toBeLessThanOrEqual(plain.mixingLoss);
      // Head and tail are rotated each for itself: neither's length changes.
      const { rotated, unit } = compiled;
      expect((length(rotated.subarray(0, head)) * unit) / parts[0]).toBeCloseTo(1, 6);
      expect((length(rotated.subarray(head)) * unit) / parts[1]).toBeCloseTo(1, 6);
    }
    expect(prepareQuery(resident, new Float32Array(R), 0)).toBeNull();
    for (const wrong of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      expect(() => prepareQuery(resident, new Float32Array(R).fill(wrong, R - 1), 0)).toThrow("expected finite values");
    }
  });

  test.each([127, -127])("the widest block's largest sums, of entries %i, do not overflow", async (entry) => {
    const generator = random(1, "mixed-query");
    const [R, head] = [600, 64];
    const design = entriesAtRandom([512, 88], head, generator);
    design.mixing.entries.fill(entry, 0, 512 * 512);
    const rows = new Float32Array(R).fill(1);
    const resident = await residentOf(file, design, generator, rows);
    for (const sign of [1, -1]) {
      const gradient = new Float32Array(R).fill(sign * (2 - 2 ** -23));
      const { rotated, unit } = prepared(file, resident, gradient);
      const plain = plainQuery(drawBasis(resident.basis.exponents.slice(), 7, head), gradient, design)!;
      expect(unit / plain.unit).toBeCloseTo(1, 12);
      expect(farthest(rotated, plain.rotated)).toBeLessThan(1e-8);
    }
  });

  test.each([290, -290])("columns times 2^%i change a query's unit and nothing else", async (shift) => {
    const generator = random(2, "mixed-query");
    const design = entriesAtRandom([40, 24], 16, generator);
    const rows = new Float32Array(64).fill(1);
    const [plain, shifted] = [await residentOf(file, design, generator, rows), await shiftedBy(shift)];
    const gradient = Float32Array.from({ length: 64 }, generator.normal);
    const [one, { unit, ...other }] = [prepared(file, plain, gradient), prepared(file, shifted, gradient)];
    expect({ unit: unit / 2 ** shift, ...other }).toEqual(one);

    function shiftedBy(exponent: number) {
      const exponents = design.mixing.exponents.map((own) => own + exponent);
      return residentOf(file, { ...design, mixing: { ...design.mixing, exponents } }, generator, rows);
    }
  });
});

/** The greatest difference of `values` from as many of `others`. */
const farthest = (others: Float64Array, values: Float64Array): number =>
  values.reduce((most, value, j) => Math.max(most, Math.abs(value - others[j])), 0);

/** A mixing of any entries and places, of columns whose sizes differ by 2²⁰. It need not have an inverse: a query asks for none. */
function entriesAtRandom(blocks: number[], head: number, generator: Random): MixingDesign {
  const R = blocks.reduce((sum, width) => sum + width, 0);
  const entries = blocks.flatMap((width) =>
    Array.from({ length: width * columnBytes(width) }, (_, at) =>
      at % columnBytes(width) < width ? generator.below(255) - 127 : 0,
    ),
  );
  const places = Uint32Array.from({ length: R }, (_, j) => j);
  for (let j = R - 1; j > 0; j--) {
    const other = generator.below(j + 1);
    [places[j], places[other]] = [places[other], places[j]];
  }
  const exponents = Int16Array.from({ length: R }, () => generator.below(21) - 10);
  const inverses = blocks.map((width) => new Float64Array(width * width));
  return { mixing: { blocks, exponents, places, entries: Int8Array.from(entries) }, inverses, head };
}

/** An index of one row, with every seventh coordinate zero and the others of all sizes unless `row` says otherwise, in memory. */
async function residentOf(file: KernelFile, design: MixingDesign, generator: Random, row?: Float32Array) {
  const R = design.mixing.places.length;
  const uneven = Float32Array.from({ length: R }, (_, j) => (j % 7 === 3 ? 0 : 10 ** (generator.below(13) - 6)));
  const index = await buildIndex(row ?? uneven, R, undefined, () => design);
  onTestFinished(index.remove);
  const resident = await loadResident(index.manifest, index.source, loadKernel(file), "coarse");
  // What an earlier query may have left behind the coordinates is multiplied with the columns' padding.
  new Uint8Array(resident.floats.buffer, resident.at.integers, 4 * (R + 16)).fill(0x7f);
  return resident;
}

/** A query as the kernel leaves it, its codes as integers. */
function prepared(file: KernelFile, resident: Resident, gradient: Float32Array) {
  const { kernel, at, dimension, doubles } = resident;
  expect(prepareQuery(resident, gradient, 1)).not.toBeNull();
  const [slot, stride] = [slotAt(resident, 1), strideOf(dimension)];
  const term = (offset: number) => doubles[(slot + offset) / 8];
  const planes = new Uint8Array(kernel.memory.buffer, slot + SLOT.codes, 2 * stride);
  const wide = new Int16Array(kernel.memory.buffer, slot + SLOT.codes, stride);
  const codes =
    file === "scan-relaxed.wasm"
      ? Int16Array.from({ length: stride }, (_, j) => 128 * planes[j] + planes[stride + j] - QUERY_OFFSET)
      : wide.slice();
  return {
    rotated: doubles.slice(at.rotated / 8, at.rotated / 8 + stride),
    codes,
    unit: term(SLOT.unit),
    residualFactor: term(SLOT.residualFactor),
    normFactor: term(SLOT.normFactor),
    highFactor: term(SLOT.highFactor),
    headScaleFactor: term(SLOT.headScaleFactor),
    headHighFactor: term(SLOT.headHighFactor),
    tailFactor: term(SLOT.tailFactor),
  };
}
