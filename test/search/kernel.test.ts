import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { KERNEL_FILES, type KernelFile, loadKernel } from "../../offline/serve/kernel.ts";
import { type Basis, DROPPED, drawBasis } from "../../src/core/basis.ts";
import {
  type KernelExports,
  MIDDLE,
  PLANE,
  QUERY_LIMIT,
  QUERY_OFFSET,
  SLOT,
  slotBytes,
} from "../../src/core/kernel/kernel.ts";
import { interleave, strideOf } from "../../src/core/plane.ts";
import { random } from "../../src/core/random.ts";
import { type Candidates, keepReaching, prune } from "../../src/core/topk.ts";
import { plainKernel, plainQuery } from "./plain-kernel.ts";

const folder = fileURLToPath(new URL("../../src/core/kernel/", import.meta.url));
const asc = fileURLToPath(import.meta.resolve("assemblyscript/bin/asc.js"));

describe.each(KERNEL_FILES)("%s", (file) => {
  test("is what its source compiles to", () => {
    const out = mkdtempSync(path.join(tmpdir(), "kernel-"));
    const target = /scan-(.*)\.wasm/.exec(file)?.[1] ?? "";
    const options = ["-o", path.join(out, file), "--config", "assembly/asconfig.json", "--target", target];
    execFileSync(process.execPath, [asc, "assembly/kernel.ts", ...options], { cwd: folder });
    expect(readFileSync(path.join(out, file)).equals(readFileSync(path.join(folder, file)))).toBe(true);
    rmSync(out, { recursive: true });
  });

  test.each([
    ["one coordinate", 1, 5],
    ["a short vector", 20, 9],
    ["whole SIMD vectors", 512, 131],
    ["more than 32-bit sums hold", 9000, 12],
  ])("scans as the plain kernel does, with %s", (_, R, n) => {
    const compiled = scanWith(loadKernel(file).instantiate(), R, n, file === "scan-relaxed.wasm");
    const plain = scanWith(plainKernel(), R, n, false);
    expect(compiled.all).toEqual(plain.all);
    expect(compiled.filtered).toEqual(plain.filtered);
    expect(plain.filtered.length).toBeLessThan(n);
    // The high plane alone may already exclude a row that the whole query would not, never one that reaches the bound for sure.
    const written = new Set(compiled.bounded.map(({ row }) => row));
    for (const { row, dot } of plain.all) if (Math.abs(dot) > plain.bound) expect(written).toContain(row);
    expect(plain.bounded).toEqual(expect.arrayContaining(compiled.bounded));
  });

  test.each([1, 2, 3, 4, 8, 33, 512, 700])("prepares a query of R = %i coordinates as the plain kernel does", (R) => {
    const generator = random(R, "kernel.test");
    const exponents = Int16Array.from({ length: R }, (_, j) => (j % 7 === 3 ? DROPPED : generator.below(20) - 10));
    const basis = drawBasis(exponents, 1);
    for (const scale of [1e-30, 1, 1e30]) {
      const gradient = Float32Array.from({ length: R }, () => scale * generator.normal());
      const compiled = prepareWith(file, basis, gradient);
      const plain = plainQuery(basis, gradient)!;
      expect(compiled.done).toBe(1);
      for (const [j, value] of plain.rotated.entries()) expect(compiled.rotated[j]).toBeCloseTo(value, 8);
      for (const [j, code] of plain.codes.entries()) expect(compiled.codes[j]).toBe(code);
      expect([...compiled.codes.subarray(R), ...compiled.rotated.subarray(R)].every((value) => value === 0)).toBe(true);
      for (const term of ["unit", "residualFactor", "normFactor", "highFactor"] as const) {
        // Factors are rounded up, by (4 R + 256) 2⁻⁵³ of ‖q‖.
        const slack = term === "unit" ? 0 : 1e-12 * plain.residualFactor;
        expect(compiled[term]).toBeLessThanOrEqual(plain[term] * (1 + 1e-12) + slack);
        expect(compiled[term]).toBeGreaterThanOrEqual(plain[term] * (1 - 1e-12));
      }
    }
    expect(prepareWith(file, basis, new Float32Array(R)).done).toBe(0);
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(prepareWith(file, basis, new Float32Array(R).fill(wrong, R - 1)).done).toBe(2);
    }
  });

  test.each([1, 10, 100])("sweeps to what reaches the %i best of either end", (k) => {
    const { all, swept, scanned } = sweepWith(loadKernel(file).instantiate(), file === "scan-relaxed.wasm", k);
    const kept = prune(all, k);
    const byPlace = ({ places, dots, widths }: Candidates) =>
      places.map((place, at) => ({ place, dot: dots[at], width: widths[at] })).sort((a, b) => a.place - b.place);
    expect(byPlace(swept)).toEqual(byPlace(kept));
    expect(kept.places.length).toBeGreaterThan(0);
    expect(scanned).toBeLessThan(SWEPT);
  });

  test("computes the fine plane's dots to rounding, and the truth to the last bit", () => {
    const compiled = rescoreWith(loadKernel(file).instantiate());
    const plain = rescoreWith(plainKernel());
    expect(compiled.exact).toEqual(plain.exact);
    compiled.refined.forEach((dot, index) => {
      expect(dot).toBeCloseTo(plain.refined[index], 8);
    });
  });
});

/** A query as a kernel prepares it, its codes as integers. */
function prepareWith(file: KernelFile, basis: Basis, gradient: Float32Array) {
  const R = gradient.length;
  const stride = strideOf(R);
  const kernel = loadKernel(file).instantiate();
  kernel.memory.grow(2);
  const { buffer } = kernel.memory;
  const [values, scales, signs, rotated, slot] = [1024, 8192, 16384, 32768, 65536];
  new Float32Array(buffer, values, R).set(gradient);
  new Float64Array(buffer, scales, R).set(basis.scales);
  new Int8Array(buffer, signs, basis.signs.length).set(basis.signs);
  const done = kernel.prepare(values, scales, signs, R, stride, rotated, slot, 0);
  const term = (offset: number) => new Float64Array(buffer, slot + offset, 1)[0];
  const planes = new Uint8Array(buffer, slot + SLOT.codes, 2 * stride);
  const codes =
    file === "scan-relaxed.wasm"
      ? Int16Array.from({ length: stride }, (_, j) => 128 * planes[j] + planes[stride + j] - QUERY_OFFSET)
      : new Int16Array(buffer, slot + SLOT.codes, stride);
  return {
    done,
    rotated: new Float64Array(buffer, rotated, stride),
    codes,
    unit: term(SLOT.unit),
    residualFactor: term(SLOT.residualFactor),
    normFactor: term(SLOT.normFactor),
    highFactor: term(SLOT.highFactor),
  };
}

const SWEPT = 3000;

/** Random rows by falling length, swept with little room for entries and up to a place now and then, and all of them scanned. */
function sweepWith(kernel: KernelExports, relaxed: boolean, k: number) {
  const generator = random(4, "kernel.test");
  const [n, R, room] = [SWEPT, 32, 300];
  const at = {
    plane: 512,
    terms: 4096,
    codes: 65536,
    slot: 1024,
    heaps: 3 * 65536,
    ceilings: 4 * 65536,
    places: 5 * 65536,
    pairs: 6 * 65536,
  };
  kernel.memory.grow(8);
  const { buffer } = kernel.memory;
  layPlane(buffer, at, R);
  const terms = new DataView(buffer, at.terms);
  const lengths = Array.from({ length: n }, () => 1 / (0.01 + generator.below(1000) / 1000)).sort((a, b) => b - a);
  const ceilings = new Float64Array(buffer, at.ceilings, Math.ceil(n / 64));
  for (const [row, length] of lengths.entries()) {
    const codes = Int8Array.from({ length: R }, () => generator.below(255) - 127);
    const norm = length * Math.hypot(...codes) * (1 + 2 ** -20);
    interleave(codes, row % 4, new Int8Array(buffer, at.codes + R * (row - (row % 4)), 4 * R));
    terms.setFloat32(16 * row, length, true);
    terms.setFloat32(16 * row + 4, norm, true);
    terms.setFloat32(16 * row + 8, 0.003 * norm, true);
    terms.setInt32(
      16 * row + 12,
      codes.reduce((sum, code) => sum + code, 0),
      true,
    );
    for (let step = 0; 64 * step <= row; step++)
      ceilings[step] = Math.max(ceilings[step], Math.fround(norm) * (1 + 1e-6));
  }
  const query = Int16Array.from({ length: R }, () => generator.below(2 * QUERY_LIMIT + 1) - QUERY_LIMIT);
  laySlot(buffer, at.slot, query, relaxed, Math.hypot(...query));
  new Uint32Array(buffer, at.slot + SLOT.open, 1)[0] = 1;
  const place = new Uint32Array(buffer, at.slot + SLOT.place, 1);
  const open = new Uint32Array(buffer, at.slot + SLOT.open, 1);
  const take = (written: number, found: Candidates) => {
    const pairs = new Float64Array(buffer, at.pairs, 2 * written);
    found.places.push(...new Uint32Array(buffer, at.places, written));
    for (let entry = 0; entry < written; entry++) {
      found.dots.push(pairs[2 * entry]);
      found.widths.push(pairs[2 * entry + 1]);
    }
  };
  const swept: Candidates = { places: [], dots: [], widths: [] };
  for (let until = 40; open[0] === 1 && place[0] < n; until = Math.min(n, until + 400)) {
    while (open[0] === 1 && place[0] < until) {
      take(kernel.sweep(at.slot, until, n, k, at.heaps, at.ceilings, at.plane, 0, at.places, at.pairs, room), swept);
    }
  }
  const [high, low] = new Float64Array(buffer, at.slot + SLOT.high, 2);
  const all: Candidates = { places: [], dots: [], widths: [] };
  for (let first = 0; first < n; first += 1000) {
    take(kernel.scan(at.plane, first, 1000, at.slot, 0, 0, 0, at.places, at.pairs), all);
  }
  return { all, swept: keepReaching(swept, high, -low), scanned: place[0] };
}

/** Rows that are not divided. */
function layPlane(buffer: ArrayBufferLike, at: { plane: number; terms: number; codes: number }, stride: number) {
  new Uint32Array(buffer, at.plane, PLANE.bytes / 4).set([at.terms, at.codes, stride]);
}

/** A query's codes and factors, as `prepare` lays them out for a kernel. */
function laySlot(buffer: ArrayBufferLike, slot: number, query: Int16Array, relaxed: boolean, residualFactor: number) {
  const stride = strideOf(query.length);
  const square = query.reduce((sum, code) => sum + (((code + QUERY_OFFSET) & 127) - MIDDLE) ** 2, 0);
  new Float64Array(buffer, slot, 4).set([1, residualFactor, 1e-6, Math.sqrt(square)]);
  if (!relaxed) {
    new Int16Array(buffer, slot + SLOT.codes, stride).set(query);
    return;
  }
  const planes = new Uint8Array(buffer, slot + SLOT.codes, 2 * stride);
  for (let j = 0; j < stride; j++) {
    const shifted = (query[j] ?? 0) + QUERY_OFFSET;
    planes[j] = shifted >> 7;
    planes[stride + j] = shifted & 127;
  }
}

/** Scans random rows, of the largest codes some, with the largest query: all of them, every third, and those beyond a bound. */
function scanWith(kernel: Pick<KernelExports, "memory" | "scan">, R: number, n: number, relaxed: boolean) {
  const generator = random(2, "kernel.test");
  const stride = strideOf(R);
  const groups = Math.ceil(n / 4);
  const at = { plane: 512, terms: 1024, query: 1024 + 64 * groups, codes: 0, filter: 0, rows: 0, pairs: 0 };
  at.codes = at.query + slotBytes(stride);
  at.filter = at.codes + 4 * groups * stride;
  at.rows = at.filter + 16 * Math.ceil(n / 128 + 1);
  at.pairs = at.rows + 16 * groups;
  kernel.memory.grow(Math.ceil((at.pairs + 16 * n) / 65536));
  const { buffer } = kernel.memory;
  layPlane(buffer, at, stride);
  const terms = new DataView(buffer, at.terms);
  const codes = new Int8Array(stride);
  const query = Int16Array.from({ length: R }, () => generator.below(2 * QUERY_LIMIT + 1) - QUERY_LIMIT);
  const length = query.reduce((sum, code) => sum + code ** 2, 0);
  for (let row = 0; row < n; row++) {
    let sum = 0;
    let square = 0;
    for (let j = 0; j < R; j++) {
      codes[j] = row === 0 ? 127 * Math.sign(query[j]) : generator.below(255) - 127;
      sum += codes[j];
      square += codes[j] ** 2;
    }
    interleave(codes, row % 4, new Int8Array(buffer, at.codes + stride * (row - (row % 4)), 4 * stride));
    terms.setFloat32(16 * row, 1 + row / n, true);
    terms.setFloat32(16 * row + 4, (1 + row / n) * Math.sqrt(square) * (1 + 2 ** -20), true);
    terms.setFloat32(16 * row + 8, 0.01, true);
    terms.setInt32(16 * row + 12, sum, true);
  }
  new Uint8Array(buffer, at.filter, Math.ceil(n / 8)).fill(0b01001001);
  laySlot(buffer, at.query, query, relaxed, 1);
  const run = (high: number, low: number, filter: number) => {
    const count = kernel.scan(at.plane, 0, n, at.query, high, low, filter, at.rows, at.pairs);
    const rows = new Uint32Array(buffer, at.rows, count);
    const pairs = new Float64Array(buffer, at.pairs, 2 * count);
    const found = Array.from(rows, (row, index) => ({ row, dot: pairs[2 * index], width: pairs[2 * index + 1] }));
    return found.sort((one, other) => one.row - other.row);
  };
  const bound = Math.sqrt(length) * 127 * 1.2;
  return { all: run(0, 0, 0), filtered: run(0, 0, at.filter), bounded: run(bound, -bound, 0), bound };
}

function rescoreWith(kernel: Pick<KernelExports, "memory" | "refine" | "exact">) {
  const generator = random(3, "kernel.test");
  const [R, n, stride] = [21, 7, 32];
  const [rows, terms, codes, query, data, out] = [1024, 1088, 1152, 2048, 4096, 8192];
  kernel.memory.grow(1);
  const { buffer } = kernel.memory;
  const wanted = [6, 0, 3, 3, 5];
  new Uint32Array(buffer, rows, wanted.length).set(wanted);
  for (let row = 0; row < n; row++) {
    new Float32Array(buffer, terms + 8 * row, 1)[0] = row / 3;
    new Int8Array(buffer, codes + stride * row, R).forEach((_, j, all) => {
      all[j] = generator.below(255) - 127;
    });
    new Float32Array(buffer, data + 4 * R * row, R).forEach((_, j, all) => {
      all[j] = generator.normal();
    });
  }
  new Float64Array(buffer, query, R).forEach((_, j, all) => {
    all[j] = generator.normal();
  });
  kernel.refine(terms, codes, stride, rows, wanted.length, query, out);
  const refined = [...new Float64Array(buffer, out, wanted.length)];
  new Float32Array(buffer, query, R).set(Float32Array.from(new Float64Array(buffer, query, R)));
  kernel.exact(data, R, rows, wanted.length, query, out);
  return { refined, exact: [...new Float64Array(buffer, out, wanted.length)] };
}
