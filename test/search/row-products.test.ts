import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, test } from "vitest";
import { rowProducts } from "../../offline/index/row-products.ts";
import { random } from "../../src/core/random.ts";

/** The sums as they are defined, added to `begun`. */
function plainProducts(left: Float64Array, right: Float64Array, k: number, begun: Float64Array): Float64Array {
  const b = right.length / k;
  return begun.map((value, at) => {
    let sum = value;
    const [i, j] = [Math.floor(at / b) * k, (at % b) * k];
    for (let c = 0; c < k; c++) sum += left[i + c]! * right[j + c]!;
    return sum;
  });
}

test("are those of the definition to the last bit, at every size, begun anew or added to", () => {
  const size = fc.oneof(fc.nat(9), fc.constantFrom(63, 64, 65, 128, 131, 200));
  fc.assert(
    fc.property(size, size, fc.integer({ min: 1, max: 1100 }), fc.nat(), (a, b, k, seed) => {
      const { normal } = random(seed, "products");
      const numbers = (length: number) => Float64Array.from({ length }, () => normal() * 2 ** (10 * normal()));
      const [left, right, begun] = [numbers(a * k), numbers(b * k), numbers(a * b)];
      expect(rowProducts(left, right, k)).toEqual(plainProducts(left, right, k, new Float64Array(a * b)));
      expect(rowProducts(left, left, k, true)).toEqual(rowProducts(left, left, k));
      expect(rowProducts(left, right, k, false, begun.slice())).toEqual(plainProducts(left, right, k, begun));
    }),
    { numRuns: 50 },
  );
});

test("come from a kernel that is what its source compiles to", () => {
  const folder = fileURLToPath(new URL("../../offline/index/", import.meta.url));
  const asc = fileURLToPath(import.meta.resolve("assemblyscript/bin/asc.js"));
  const out = path.join(mkdtempSync(path.join(tmpdir(), "product-")), "product.wasm");
  const config = "../../src/core/kernel/assembly/asconfig.json";
  const options = ["-o", out, "--config", config, "--target", "simd"];
  execFileSync(process.execPath, [asc, "assembly/product.ts", ...options], { cwd: folder });
  expect(readFileSync(out).equals(readFileSync(path.join(folder, "product.wasm")))).toBe(true);
});
