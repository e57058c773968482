/** Rows divided into heads and tails: what a scan may leave out, and what it says of the rest. FORMAT.md, "Head first". */
import { describe, expect, test } from "vitest";
import { KERNEL_FILES, loadKernel } from "../../offline/serve/kernel.ts";
import { MIDDLE, PART_ROWS, QUERY_LIMIT, QUERY_OFFSET } from "../../src/core/kernel/kernel.ts";
import { type Random, random } from "../../src/core/random.ts";
import { type Candidates, keepReaching, prune, reaches } from "../../src/core/topk.ts";
import { type DividedRow, divide, layRows, type Query } from "./divided-rows.ts";
import { plainFactors } from "./plain-kernel.ts";

/** R, the head's width, and the number of rows. Tails have whole thirty-twos of codes, a sixteen more, or a sixteen alone. */
const SHAPES: [number, number, number][] = [
  [17, 16, 1],
  [33, 16, 3],
  [64, 48, 9],
  [100, 64, 256],
  [200, 16, 1027],
  [200, 96, 263],
  [512, 496, 517],
];

describe.each(KERNEL_FILES)("%s", (file) => {
  const relaxed = file === "scan-relaxed.wasm";

  test.each(SHAPES)("scans rows of R = %i, heads of %i, %i of them", (R, head, n) => {
    const generator = random(R + head, "divided-rows");
    const query = headHeavy(R, head, generator);
    const rows = Array.from({ length: n }, (_, at) => rowOf(at, query, generator));
    const scan = layRows(loadKernel(file).instantiate(), rows, query, relaxed);
    const truths = rows.map((row) => truthOf(row, query));
    const sorted = truths.toSorted((a, b) => a - b);
    const end = Math.min(10, Math.floor(n / 2));
    const [low, high] = [Math.min(0, sorted[end]), Math.max(0, sorted[n - 1 - end])];
    const third = (row: number) => row % 3 === 0;
    const everyone = () => true;
    for (const [least, most, first, chosen] of [
      [0, 0, 0, everyone],
      [high, low, 0, everyone],
      [high, low, 0, third],
      [high, low, n > 16 ? 8 : 0, everyone],
      [high, Number.NEGATIVE_INFINITY, 0, everyone],
      [Number.POSITIVE_INFINITY, low, 0, third],
    ] as const) {
      const { found, tails } = scan(first, n - first, least, most, chosen === everyone ? null : chosen);
      const takesPart = (row: number) => row >= first && chosen(row);
      for (const { row, dot, width } of found) {
        const whole = wholeInterval(rows[row], query);
        const unit = 1e-12 * query.residualFactor * rows[row].terms.norm;
        expect(takesPart(row)).toBe(true);
        expect(Math.abs(dot - whole.dot)).toBeLessThanOrEqual(unit);
        expect(Math.abs(width - whole.width)).toBeLessThanOrEqual(unit);
        expect(reaches(dot, width, least, most)).toBe(true);
      }
      const written = new Set(found.map(({ row }) => row));
      expect(written.size).toBe(found.length);
      // Left out may be what its whole interval, or that of its head, excludes: never what reaches a bound.
      const left = [...truths.keys()].filter((row) => takesPart(row) && !written.has(row));
      for (const row of left) {
        expect((truths[row] > 0 && truths[row] >= least) || (truths[row] < 0 && truths[row] <= most)).toBe(false);
        const { dot, width } = wholeInterval(rows[row], query);
        const excluded = !reaches(dot, width * (1 - 1e-12), least, most);
        expect(excluded || !reachesByHead(rows[row], query, relaxed, 0, least, most)).toBe(true);
      }
      const slack = relaxed ? 2 ** -19 : 1e-12;
      const byHead = (wider: number) =>
        rows.filter((row, at) => takesPart(at) && reachesByHead(row, query, relaxed, wider, least, most)).length;
      expect(tails).toBeGreaterThanOrEqual(Math.max(found.length, byHead(relaxed ? 0 : -slack)));
      expect(tails).toBeLessThanOrEqual(byHead(slack));
      if (n > PART_ROWS && least === high && most === low) expect(tails).toBeLessThan((n - first) / 2);
    }
  });

  test("sums of more coordinates than 32 bits hold are whole", () => {
    const [R, head] = [9600, 4800];
    const generator = random(3, "divided-rows");
    const signs = Float64Array.from({ length: R }, () => (generator.below(2) === 0 ? 1 : -1));
    const query: Query = {
      ...plainFactors(
        signs.map((sign) => sign * QUERY_LIMIT),
        head,
      ),
      head,
    };
    const along = [1, -1, 1].map((sign, at) =>
      divide(
        signs.map((one, j) => (sign * one * (at === 2 ? Math.sign(head - j - 0.5) : 1)) / 128),
        head,
      ),
    );
    const rows = [...along, ...Array.from({ length: 9 }, (_, at) => rowOf(at + 8, query, generator))];
    const { found } = layRows(loadKernel(file).instantiate(), rows, query, relaxed)(0, rows.length, 0, 0, null);
    expect(found.map(({ row }) => row).sort((a, b) => a - b)).toEqual([...rows.keys()]);
    for (const { row, dot } of found) {
      const whole = wholeInterval(rows[row], query);
      expect(Math.abs(dot - whole.dot)).toBeLessThanOrEqual(1e-12 * query.residualFactor * rows[row].terms.norm);
    }
    expect(127 * QUERY_LIMIT * head).toBeGreaterThan(2 ** 31);
  });

  test.each([1, 10, 100])("sweeps to what reaches the %i best of either end", (k) => {
    const [n, R, head] = [3000, 64, 32];
    const generator = random(k, "divided-rows");
    const query = headHeavy(R, head, generator);
    const rows = Array.from({ length: n }, (_, at) => rowOf(at + 8, query, generator));
    rows.sort((one, other) => other.terms.norm - one.terms.norm);
    const scan = layRows(loadKernel(file).instantiate(), rows, query, relaxed);
    const { found, high, low, scanned, tails } = scan.sweep(k, 300);
    const all = asCandidates(scan(0, n, 0, 0, null).found);
    const kept = prune(all, k);
    const expected = new Map(kept.places.map((place, at) => [place, [kept.dots[at], kept.widths[at]]]));
    for (const { row, dot, width } of found) expect([dot, width]).toEqual(expected.get(row));
    // The bounds are those of all rows, and what their heads exclude misses both.
    expect(keepReaching(all, high, -low)).toEqual(kept);
    const swept = new Set(found.map(({ row }) => row));
    for (const place of kept.places) {
      expect(swept.has(place) || !reachesByHead(rows[place], query, relaxed, 0, high, -low)).toBe(true);
    }
    const truths = rows.map((row) => truthOf(row, query));
    const ranked = [...truths.keys()].sort((one, other) => truths[one] - truths[other]);
    for (const row of [...ranked.slice(0, k), ...ranked.slice(-k)]) expect(swept).toContain(row);
    expect(scanned).toBeLessThan(n);
    expect(tails).toBeLessThan(scanned);
  });
});

/** A query most of whose length is in its head, in units of its step. */
function headHeavy(R: number, head: number, generator: Random): Query {
  const values = Float64Array.from({ length: R }, (_, j) => generator.normal() * (j < head ? 1 : 0.1));
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return {
    ...plainFactors(
      values.map((value) => (value / largest) * QUERY_LIMIT),
      head,
    ),
    head,
  };
}

/** Sizes of the heads and the tails of rows 1 to 6: zero, or too small for a scale. */
const ODD = [
  [0, 0],
  [1e-40, 1e-40],
  [1, 0],
  [0, 1],
  [1e-40, 1],
  [1, 1e-40],
];

/** Row 0 lies along the query, with the largest codes; then come the odd ones, and then any, of falling lengths. */
function rowOf(at: number, { codes, head }: Query, generator: Random): DividedRow {
  const length = 1 / (200 + at);
  const [headSize, tailSize] = ODD[at - 1] ?? [1, 0.1];
  const values = Float64Array.from(codes, (code, j) =>
    at === 0 ? length * Math.sign(code) : length * (j < head ? headSize : tailSize) * generator.normal(),
  );
  return divide(values, head);
}

/** Σ x_j y_j, the query in units of its step. */
const truthOf = ({ values }: DividedRow, { rotated }: Query): number =>
  values.reduce((sum, value, j) => sum + value * rotated[j], 0);

/** dot and width of a row by all its codes and the whole query. */
function wholeInterval({ codes, terms }: DividedRow, { codes: query, head, residualFactor, normFactor }: Query) {
  const sum = (from: number, to: number) =>
    codes.subarray(from, to).reduce((before, code, j) => before + code * query[from + j], 0);
  const dot = terms.scale * sum(0, head) + terms.tailScale * sum(head, query.length);
  return { dot, width: residualFactor * terms.residual + normFactor * terms.norm };
}

/**
 * Whether a row's head alone may reach a bound; by the high plane where the kernel is the relaxed one. `wider`: what may be added to the
 * interval, relative to what is rounded in it.
 */
function reachesByHead(
  { codes, terms }: DividedRow,
  query: Query,
  relaxed: boolean,
  wider: number,
  high: number,
  low: number,
): boolean {
  const highOf = (code: number) => (relaxed ? ((code + QUERY_OFFSET) & ~127) + MIDDLE - QUERY_OFFSET : code);
  const sum = codes.subarray(0, query.head).reduce((before, code, j) => before + code * highOf(query.codes[j]), 0);
  const normFactor = query.normFactor + (relaxed ? query.headHighFactor : 0);
  const width = query.headScaleFactor * terms.scale + normFactor * terms.norm + query.tailFactor * terms.tailNorm;
  const more = wider * (width + (query.residualFactor + 256 * Math.sqrt(codes.length)) * terms.norm);
  return reaches(terms.scale * sum, width + more + (wider > 0 && relaxed ? 1e-37 : 0), high, low);
}

const asCandidates = (found: readonly { row: number; dot: number; width: number }[]): Candidates => ({
  places: found.map(({ row }) => row),
  dots: found.map(({ dot }) => dot),
  widths: found.map(({ width }) => width),
});
