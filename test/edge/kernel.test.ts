import { describe, expect, test } from "vitest";
import { drawBasis, rotate } from "../../src/core/basis.ts";
import { SLOT } from "../../src/core/kernel/kernel.ts";
import { interleave, quantiseRow, strideOf } from "../../src/core/plane.ts";
import { orderedDot } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { workerKernel } from "../../src/kernel.ts";

describe("the kernel in workerd", () => {
  test("compiles and has its functions", () => {
    const { memory, ...functions } = workerKernel().instantiate();
    expect(memory.buffer.byteLength % 65536).toBe(0);
    expect(Object.keys(functions).toSorted()).toEqual(["answer", "exact", "prepare", "refine", "scan", "sweep"]);
    expect(Object.values(functions).every((run) => typeof run === "function")).toBe(true);
  });

  test("scans intervals that hold the truth", () => {
    const [n, R] = [50, 33];
    const stride = strideOf(R);
    const generator = random(1, "kernel");
    const basis = drawBasis(new Int16Array(R), 1);
    const kernel = workerKernel().instantiate();
    kernel.memory.grow(1);
    const { buffer } = kernel.memory;
    const at = { plane: 960, terms: 1024, codes: 2048, slot: 8192, rows: 16384, pairs: 32768 };
    const from = { values: 20480, scales: 24576, signs: 28672, rotated: 61440 };
    const terms = new DataView(buffer, at.terms);
    const values = Array.from({ length: n }, () => Float32Array.from({ length: R }, generator.normal));
    values.forEach((value, row) => {
      const x = Float64Array.from(value);
      rotate(basis, x);
      const codes = new Int8Array(stride);
      const { scale, norm, residual, codeSum } = quantiseRow(x, codes, new Int8Array(stride));
      interleave(codes, row % 4, new Int8Array(buffer, at.codes + stride * (row - (row % 4)), 4 * stride));
      [scale, norm, residual].forEach((term, index) => {
        terms.setFloat32(16 * row + 4 * index, term, true);
      });
      terms.setInt32(16 * row + 12, codeSum, true);
    });
    new Uint32Array(buffer, at.plane, 4).set([at.terms, at.codes, stride, 0]);
    const gradient = Float32Array.from({ length: R }, generator.normal);
    new Float32Array(buffer, from.values, R).set(gradient);
    new Float64Array(buffer, from.scales, R).set(basis.scales);
    new Int8Array(buffer, from.signs, basis.signs.length).set(basis.signs);
    expect(kernel.prepare(from.values, from.scales, from.signs, R, stride, from.rotated, at.slot, 0)).toBe(1);
    const written = kernel.scan(at.plane, 0, n, at.slot, 0, 0, 0, at.rows, at.pairs);
    const rows = [...new Uint32Array(buffer, at.rows, written)];
    expect(rows.toSorted((one, other) => one - other)).toEqual([...values.keys()]);
    const pairs = new Float64Array(buffer, at.pairs, 2 * n);
    const [unit] = new Float64Array(buffer, at.slot + SLOT.unit, 1);
    rows.forEach((row, index) => {
      const truth = orderedDot(values[row], gradient) / unit;
      expect(Math.abs(truth - pairs[2 * index])).toBeLessThanOrEqual(pairs[2 * index + 1]);
    });
  });

  test("has memory of its own in every instance", () => {
    const kernel = workerKernel();
    expect(kernel.instantiate().memory).not.toBe(kernel.instantiate().memory);
  });

  test("digests a stream of bytes as FIPS 180-4 does", async () => {
    const sha256 = workerKernel().sha256();
    await sha256.update(new TextEncoder().encode("a"));
    await sha256.update(new TextEncoder().encode("bc"));
    expect(await sha256.finish()).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });
});
