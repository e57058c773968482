/** The design of a mixing, against plain matrix products with its entries. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { designMixing, type MixingDesign } from "../../offline/index/mixing.ts";
import { openTypical, type Typical } from "../../offline/index/typical.ts";
import { balance, DROPPED } from "../../src/core/basis.ts";
import { columnBytes, LOSS } from "../../src/core/mixing.ts";
import { random } from "../../src/core/random.ts";
import { plainMix } from "./plain-kernel.ts";

interface Data {
  R: number;
  m: number;
  layers: number[];
  seed: number;
  /** Directions that queries and rows share in each layer; 0 for isotropic data. */
  shared: number;
}

/** Queries and rows that lie mostly in a few directions of each layer, different ones. */
function correlated({ R, m, layers, seed, shared }: Data): Typical {
  const { normal } = random(seed, "mixing");
  const draw = (length: number) => Float64Array.from({ length }, normal);
  const side = (noise: number) => {
    const values = new Float32Array(m * R);
    let from = 0;
    for (const width of layers) {
      const directions = draw(shared * width);
      for (let i = 0; i < m; i++) {
        const weights = draw(shared);
        for (let j = 0; j < width; j++) {
          let value = noise * normal();
          for (let s = 0; s < shared; s++) value += weights[s]! * directions[s * width + j]!;
          values[i * R + from + j] = value;
        }
      }
      from += width;
    }
    return values;
  };
  const noise = shared === 0 ? 1 : 0.1;
  return { gradients: side(noise), rows: side(noise) };
}

function balanceOf({ gradients, rows }: Typical, R: number): Int16Array {
  const rowSquares = new Float64Array(R);
  const meanSquare = new Float64Array(R);
  const n = rows.length / R;
  rows.forEach((value, i) => {
    rowSquares[i % R]! += value * value;
    meanSquare[i % R]! += gradients[i]! ** 2 / n;
  });
  return balance(rowSquares, meanSquare, n);
}

const designOf = (typical: Typical, { R, m, layers }: Pick<Data, "R" | "m" | "layers">, n = 50 * m) =>
  designMixing(typical, { R, exponents: balanceOf(typical, R), layers, n });

function designed(data: Data, typical = correlated(data)): MixingDesign {
  const design = designOf(typical, data);
  if (!design) throw new Error("expected a design, got none");
  return design;
}

/** z = A⁻¹ p̃ by the places. */
function mixedRow({ mixing, inverses }: MixingDesign, row: Float64Array): Float64Array {
  const mixed = new Float64Array(row.length);
  let from = 0;
  mixing.blocks.forEach((width, b) => {
    for (let j = 0; j < width; j++) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += inverses[b]![j * width + i]! * row[from + i]!;
      mixed[mixing.places[from + j]!] = sum;
    }
    from += width;
  });
  return mixed;
}

/** A z: what the row z stands for. */
function unmixedRow({ mixing }: MixingDesign, z: Float64Array): Float64Array {
  const row = new Float64Array(z.length);
  let column = 0;
  let at = 0;
  for (const width of mixing.blocks) {
    const from = column;
    for (let j = 0; j < width; j++, column++, at += columnBytes(width)) {
      const factor = z[mixing.places[column]!]! * 2 ** mixing.exponents[column]!;
      for (let i = 0; i < width; i++) row[from + i]! += mixing.entries[at + i]! * factor;
    }
  }
  return row;
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, j) => sum + value * b[j]!, 0);
const norm = (a: Float64Array) => Math.sqrt(dot(a, a));

const data: fc.Arbitrary<Data> = fc
  .record({
    layers: fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 4 }),
    m: fc.integer({ min: 400, max: 600 }),
    seed: fc.nat(),
    shared: fc.integer({ min: 1, max: 3 }),
  })
  .map((drawn) => ({ ...drawn, layers: [70, ...drawn.layers] }))
  .map((drawn) => ({ ...drawn, R: drawn.layers.reduce((sum, width) => sum + width, 0) }));

test("a design keeps every inner product, its promise of LOSS, and the length of rows", () => {
  let designs = 0;
  fc.assert(
    fc.property(data, (drawn) => {
      const design = designOf(correlated(drawn), drawn);
      if (!design) return;
      designs++;
      const { R } = drawn;
      const { blocks, exponents, places, entries } = design.mixing;
      expect(blocks.reduce((sum, width) => sum + width, 0)).toBe(R);
      expect(entries.length).toBe(blocks.reduce((sum, width) => sum + width * columnBytes(width), 0));
      expect(exponents.every((exponent) => Math.abs(exponent) <= 300)).toBe(true);
      expect(entries.every((entry) => entry !== -128)).toBe(true);
      expect([...places].sort((a, b) => a - b)).toEqual([...places.keys()]);
      expect([design.head % 16, design.head >= 16, design.head <= R - 16]).toEqual([0, true, true]);
      expect(design.inverses.map(({ length }) => length)).toEqual(blocks.map((width) => width * width));

      const { normal, below } = random(drawn.seed, "vectors");
      for (let trial = 0; trial < 10; trial++) {
        // Rows of all kinds: full ones, and single coordinates.
        const only = trial % 2 === 0 ? -1 : below(R);
        const row = Float64Array.from({ length: R }, (_, j) => (only < 0 || j === only ? normal() : 0));
        const query = Float64Array.from({ length: R }, normal);
        const y = plainMix(design.mixing, query);
        const z = mixedRow(design, row);
        expect(norm(z)).toBeLessThanOrEqual(norm(row));
        const kept = unmixedRow(design, z);
        expect(norm(row.map((value, j) => value - kept[j]!))).toBeLessThanOrEqual(LOSS * norm(row));
        const error = Math.abs(dot(y, z) - dot(query, row));
        expect(error).toBeLessThanOrEqual(1e-9 * norm(query) * norm(row));
      }
    }),
    { numRuns: 15 },
  );
  expect(designs).toBeGreaterThan(7);
});

const WIDE: Data = { R: 160, m: 700, layers: [100, 60], seed: 3, shared: 2 };

test("typical queries and rows become shorter, and their length goes to the head", () => {
  const typical = correlated(WIDE);
  const design = designed(WIDE, typical);
  const exponents = balanceOf(typical, WIDE.R);
  let before = 0;
  let after = 0;
  let tail = 0;
  for (let i = 0; i < 50; i++) {
    const at = (values: Float32Array, sign: number) =>
      Float64Array.from(exponents, (exponent, j) => values[i * WIDE.R + j]! * 2 ** (sign * exponent));
    const query = at(typical.gradients, 1);
    const row = at(typical.rows, -1);
    const y = plainMix(design.mixing, query);
    const z = mixedRow(design, row);
    before += norm(query) * norm(row);
    after += norm(y) * norm(z);
    tail += norm(y.subarray(design.head)) * norm(z.subarray(design.head));
  }
  expect(after).toBeLessThan(0.6 * before);
  expect(tail).toBeLessThan(0.5 * after);
});

test("the same sample gives the same design", () => {
  expect(designed(WIDE)).toEqual(designed(WIDE));
});

test("dropped coordinates, layers of zeros and layers of one coordinate take part", () => {
  const layers = [70, 1, 30, 2];
  const drawn: Data = { R: 103, m: 700, layers, seed: 8, shared: 2 };
  const typical = correlated(drawn);
  for (let i = 0; i < drawn.m; i++) {
    typical.rows[i * drawn.R + 5] = 0; // No row has it.
    typical.gradients[i * drawn.R + 9] = 0; // No typical query has it.
    typical.rows.fill(0, i * drawn.R + 71, i * drawn.R + 101);
  }
  expect(balanceOf(typical, drawn.R)[5]).toBe(DROPPED);
  const design = designed(drawn, typical);
  const { normal } = random(1, "row");
  const row = Float64Array.from({ length: drawn.R }, normal);
  const kept = unmixedRow(design, mixedRow(design, row));
  expect(norm(row.map((value, j) => value - kept[j]!))).toBeLessThanOrEqual(LOSS * norm(row));
});

test("a pair that is not finite is left out", () => {
  const typical = correlated(WIDE);
  const exponents = balanceOf(typical, WIDE.R);
  typical.gradients[3 * WIDE.R + 7] = Number.NaN;
  typical.rows[11 * WIDE.R] = Number.POSITIVE_INFINITY;
  const design = designMixing(typical, { ...WIDE, exponents, n: 40_000 });
  expect(design?.inverses.every((inverse) => inverse.every(Number.isFinite))).toBe(true);
});

test("nothing is designed where it would not pay, or where the sample is too small", () => {
  const isotropic: Data = { R: 128, m: 800, layers: [128], seed: 5, shared: 0 };
  expect(designOf(correlated(isotropic), isotropic)).toBeNull();
  const small = { ...WIDE, m: 200 };
  expect(designOf(correlated(small), small)).toBeNull();
  const narrow: Data = { R: 60, m: 700, layers: [60], seed: 5, shared: 2 };
  expect(designOf(correlated(narrow), narrow)).toBeNull();
  const zeros = { gradients: new Float32Array(128 * 300), rows: new Float32Array(128 * 300) };
  expect(designOf(zeros, { R: 128, m: 300, layers: [128] })).toBeNull();
});

test("a sample is half as many as there is room for, evenly, of every 2^k-th row offered with the smallest k that fits", () => {
  const offered = fc.record({ R: fc.constantFrom(512, 1000, 4096, 60_000), n: fc.nat(20_000) });
  fc.assert(
    fc.property(offered, ({ R, n }) => {
      const sample = openTypical(R);
      const gradient = new Float32Array(R);
      const preconditioned = new Float32Array(R);
      for (let row = 0; row < n; row++) {
        gradient[R - 1] = row;
        preconditioned[0] = -row;
        sample.add(row, gradient, preconditioned);
      }
      const { gradients, rows } = sample.rows();
      const most = Math.min(8192, Math.floor(2 ** 26 / (8 * R)));
      let stride = 1;
      while (Math.ceil(n / stride) > most) stride *= 2;
      const kept = Math.ceil(n / stride);
      const count = Math.min(kept, Math.ceil(most / 2));
      const expected = Array.from({ length: count }, (_, i) => stride * Math.floor((i * kept) / count));
      expect(expected.map((_, i) => gradients[i * R + R - 1])).toEqual(expected);
      expect(expected.map((_, i) => 0 - rows[i * R]!)).toEqual(expected);
      expect([gradients.length, rows.length]).toEqual([expected.length * R, expected.length * R]);
    }),
    { numRuns: 12 },
  );
});
