import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { KERNEL_FILES, loadKernel } from "../../offline/serve/kernel.ts";
import type { KernelExports } from "../../src/core/kernel/kernel.ts";
import { interleave, strideOf } from "../../src/core/plane.ts";
import { writeQuery } from "../../src/core/query.ts";
import { random } from "../../src/core/random.ts";
import { plainKernel } from "./plain-kernel.ts";

const folder = fileURLToPath(new URL("../../src/core/kernel/", import.meta.url));
const asc = fileURLToPath(import.meta.resolve("assemblyscript/bin/asc.js"));

describe.each(KERNEL_FILES)("%s", (file) => {
  test("is what its source compiles to", () => {
    const out = mkdtempSync(path.join(tmpdir(), "kernel-"));
    const source = `assembly/${file.replace(".wasm", ".ts")}`;
    execFileSync(process.execPath, [asc, source, "-o", path.join(out, file), "--config", "assembly/asconfig.json"], {
      cwd: folder,
    });
    expect(readFileSync(path.join(out, file)).equals(readFileSync(path.join(folder, file)))).toBe(true);
    rmSync(out, { recursive: true });
  });

  test.each([
    ["one coordinate", 1, 5],
    ["a short vector", 20, 9],
    ["whole SIMD vectors", 512, 131],
    ["more than 32-bit sums hold", 9000, 12],
  ])("scans as the plain kernel does, with %s", (_, R, n) => {
    const compiled = scanWith(loadKernel(file).instantiate(), R, n);
    const plain = scanWith(plainKernel(), R, n);
    expect(compiled.all).toEqual(plain.all);
    expect(compiled.filtered).toEqual(plain.filtered);
    expect(plain.filtered.length).toBeLessThan(n);
    // The high plane alone may already exclude a row that the whole query would not, never one that reaches the bound for sure.
    const written = new Set(compiled.bounded.map(({ row }) => row));
    for (const { row, dot } of plain.all) if (Math.abs(dot) > plain.bound) expect(written).toContain(row);
    expect(plain.bounded).toEqual(expect.arrayContaining(compiled.bounded));
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

/** Scans random rows, of the largest codes some, with the largest query: all of them, every third, and those beyond a bound. */
function scanWith(kernel: KernelExports, R: number, n: number) {
  const generator = random(2, "kernel.test");
  const stride = strideOf(R);
  const groups = Math.ceil(n / 4);
  const at = { terms: 1024, query: 1024 + 64 * groups, codes: 0, filter: 0, rows: 0, pairs: 0 };
  at.codes = at.query + 4 * stride;
  at.filter = at.codes + 4 * groups * stride;
  at.rows = at.filter + 16 * Math.ceil(n / 128 + 1);
  at.pairs = at.rows + 16 * groups;
  kernel.memory.grow(Math.ceil((at.pairs + 16 * n) / 65536));
  const { buffer } = kernel.memory;
  const terms = new DataView(buffer, at.terms);
  const codes = new Int8Array(stride);
  const query = Int16Array.from({ length: R }, () => generator.below(2 * 8191 + 1) - 8191);
  let residual = 0;
  let length = 0;
  for (let j = 0; j < R; j++) {
    residual += (((query[j] + 8192) & 127) - 63.5) ** 2;
    length += query[j] ** 2;
  }
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
  writeQuery(query, new Uint8Array(buffer, at.query, 4 * stride), stride);
  const run = (high: number, low: number, filter: number) => {
    const count = kernel.scan(
      at.terms,
      at.codes,
      stride,
      0,
      n,
      at.query,
      1,
      1e-6,
      Math.sqrt(residual),
      high,
      low,
      filter,
      at.rows,
      at.pairs,
    );
    const rows = new Uint32Array(buffer, at.rows, count);
    const pairs = new Float64Array(buffer, at.pairs, 2 * count);
    const found = Array.from(rows, (row, index) => ({ row, dot: pairs[2 * index], width: pairs[2 * index + 1] }));
    return found.sort((one, other) => one.row - other.row);
  };
  const bound = Math.sqrt(length) * 127 * 1.2;
  return { all: run(0, 0, 0), filtered: run(0, 0, at.filter), bounded: run(bound, -bound, 0), bound };
}

function rescoreWith(kernel: KernelExports) {
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
  kernel.exact(data, R, rows, wanted.length, query, out);
  return { refined, exact: [...new Float64Array(buffer, out, wanted.length)] };
}
