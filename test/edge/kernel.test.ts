import { describe, expect, test } from "vitest";
import { drawBasis, rotate, signsAt } from "../../src/core/basis.ts";
import { Checksum } from "../../src/core/checksum.ts";
import { placeMixing, placePlane } from "../../src/core/descriptors.ts";
import { SLOT } from "../../src/core/kernel/kernel.ts";
import type { Mixing } from "../../src/core/mixing.ts";
import {
  type CoarseLayout,
  coarseLayout,
  interleave,
  quantiseRow,
  type RowTerms,
  strideOf,
} from "../../src/core/plane.ts";
import { orderedDot } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { addressesOf } from "../../src/core/resident.ts";
import { workerKernel } from "../../src/kernel.ts";

const [R, HEAD] = [33, 16];

/** Blocks of two with columns (1, 0) and (1, 1), and a coordinate by itself; the last columns come first. */
const MIXING: Mixing = {
  blocks: [...Array<number>(16).fill(2), 1],
  exponents: new Int16Array(R),
  places: Uint32Array.from({ length: R }, (_, j) => R - 1 - j),
  entries: new Int8Array(16 * R),
};
for (let column = 0; column < R; column++) MIXING.entries.set(column % 2 === 0 ? [1, 0] : [1, 1], 16 * column);

/** What such blocks make of a row: of (a, b) they make (a − b, b), exact in float64. */
function mixedRow(row: Float32Array): Float64Array {
  const mixed = new Float64Array(R);
  for (let j = 0; j < R; j++) mixed[R - 1 - j] = j % 2 === 0 && j + 1 < R ? row[j] - row[j + 1] : row[j];
  return mixed;
}

/** A row's codes and terms in coarse.bin. */
function layRow(coarse: DataView, layout: CoarseLayout, row: number, codes: Int8Array, terms: RowTerms, head: number) {
  const lay = (at: number, floats: number[], sum: number) => {
    for (const [index, float] of floats.entries()) coarse.setFloat32(at + 16 * row + 4 * index, float, true);
    coarse.setInt32(at + 16 * row + 12, sum, true);
  };
  const bytes = (at: number, length: number) => new Int8Array(coarse.buffer, coarse.byteOffset + at, length);
  const front = head === 0 ? codes.length : head;
  const back = codes.length - front;
  lay(layout.termsAt, [terms.scale, terms.norm, head === 0 ? terms.residual : terms.tailNorm], terms.codeSum);
  interleave(codes.subarray(0, front), row % 4, bytes(layout.codesAt + front * (row - (row % 4)), 4 * front));
  if (back === 0) return;
  lay(layout.tailTermsAt, [terms.tailScale, terms.norm, terms.residual], terms.tailSum);
  bytes(layout.tailCodesAt + back * row, back).set(codes.subarray(front));
}

describe("the kernel in workerd", () => {
  test("compiles and has its functions", () => {
    const { memory, ...functions } = workerKernel().instantiate();
    // A page from the start: without one, workerd checks every access twice (../../offline/bench/SEARCH.md).
    expect(memory.buffer.byteLength).toBe(65536);
    expect(Object.keys(functions).toSorted()).toEqual([
      "answer",
      "checksumBegin",
      "checksumEnd",
      "checksumUpdate",
      "exact",
      "prepare",
      "refine",
      "scan",
      "sweep",
    ]);
    expect(Object.values(functions).every((run) => typeof run === "function")).toBe(true);
  });

  test.each([
    ["whole", null],
    ["mixed, and divided into heads and tails", MIXING],
  ])("scans intervals that hold the truth, of rows that are %s", (_, mixing) => {
    const n = 50;
    const head = mixing === null ? 0 : HEAD;
    const stride = strideOf(R);
    const generator = random(1, "kernel");
    const basis = drawBasis(new Int16Array(R), 1, head);
    const kernel = workerKernel().instantiate();
    const at = addressesOf(n, R, "coarse", 0, mixing && { blocks: [...mixing.blocks], head });
    kernel.memory.grow((at.memoryBytes - kernel.memory.buffer.byteLength) / 65536);
    const { buffer } = kernel.memory;
    const layout = coarseLayout(n, R, head);
    placePlane(new Uint32Array(buffer), at, layout, stride, head);
    if (mixing !== null) placeMixing(kernel, at, head, mixing);
    const values = Array.from({ length: n }, () => Float32Array.from({ length: R }, generator.normal));
    for (const [row, value] of values.entries()) {
      const x = mixing === null ? Float64Array.from(value) : mixedRow(value);
      rotate(basis, x);
      const codes = new Int8Array(stride);
      layRow(
        new DataView(buffer, at.coarse, layout.bytes),
        layout,
        row,
        codes,
        quantiseRow(x, codes, codes.slice(), head),
        head,
      );
    }
    const gradient = Float32Array.from({ length: R }, generator.normal);
    new Float32Array(buffer, at.values, R).set(gradient);
    new Float64Array(buffer, at.scales, R).set(basis.scales);
    const signs = at.basis + signsAt(R);
    new Int8Array(buffer, signs, basis.signs.length).set(basis.signs);
    expect(kernel.prepare(at.values, at.scales, signs, R, stride, at.rotated, at.slots, at.mixing)).toBe(1);
    const [unit] = new Float64Array(buffer, at.slots + SLOT.unit, 1);
    const truths = values.map((value) => orderedDot(value, gradient) / unit);
    const found = (high: number, low: number) => {
      const written = kernel.scan(at.plane, 0, n, at.slots, high, low, 0, at.rowList, at.pairs);
      const pairs = new Float64Array(buffer, at.pairs, 2 * written);
      const rows = [...new Uint32Array(buffer, at.rowList, written)];
      for (const [index, row] of rows.entries()) {
        expect(Math.abs(truths[row] - pairs[2 * index])).toBeLessThanOrEqual(pairs[2 * index + 1]);
      }
      return rows.toSorted((one, other) => one - other);
    };
    expect(found(0, 0)).toEqual([...values.keys()]);
    const most = Math.max(...truths);
    expect(found(most, Number.NEGATIVE_INFINITY)).toEqual([truths.indexOf(most)]);
  });

  test("has memory of its own in every instance", () => {
    const kernel = workerKernel();
    expect(kernel.instantiate().memory).not.toBe(kernel.instantiate().memory);
  });

  test("takes the checksum of a stream of bytes", () => {
    const checksum = new Checksum(workerKernel());
    checksum.update(new TextEncoder().encode("a"));
    checksum.update(new TextEncoder().encode("bc"));
    expect(checksum.finish()).toBe("44bc2cf5ad770999");
  });
});
