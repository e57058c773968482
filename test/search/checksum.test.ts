/** The checksum that files are loaded by, against XXH64's own values and another implementation of it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import xxhash from "xxhash-wasm";
import { KERNEL_FILES, loadKernel } from "../../offline/serve/kernel.ts";
import { Checksum } from "../../src/core/checksum.ts";
import { random } from "../../src/core/random.ts";

const { h64Raw } = await xxhash();

describe.each(KERNEL_FILES)("the checksum of %s", (file) => {
  const kernel = loadKernel(file);

  function checksumOf(...chunks: Uint8Array[]): string {
    const checksum = new Checksum(kernel);
    for (const chunk of chunks) checksum.update(chunk);
    return checksum.finish();
  }

  test.each([
    ["", "ef46db3751d8e999"],
    ["a", "d24ec4f1a98c6e5b"],
    ["abc", "44bc2cf5ad770999"],
    ["Nobody inspects the spammish repetition", "fbcea83c8a378bf1"],
  ])("of %j is %s, as published", (text, expected) => {
    expect(checksumOf(new TextEncoder().encode(text))).toBe(expected);
  });

  test("is XXH64 of the bytes, however they are cut", () => {
    const anyLength = fc.oneof(fc.nat(100), fc.nat(200_000), fc.constantFrom(32, 32_767, 32_768, 32_769, 65_536));
    fc.assert(
      fc.property(anyLength, fc.array(fc.nat(200_000), { maxLength: 5 }), fc.nat(), (length, cuts, seed) => {
        const { below } = random(seed, "checksum.test");
        const bytes = Uint8Array.from({ length }, () => below(256));
        const edges = [0, ...cuts.map((cut) => Math.min(cut, length)).sort((one, other) => one - other), length];
        const chunks = edges.slice(1).map((end, at) => bytes.subarray(edges[at], end));
        expect(checksumOf(...chunks)).toBe(h64Raw(bytes).toString(16).padStart(16, "0"));
      }),
    );
  });

  test("differs for every byte that differs", () => {
    const bytes = Uint8Array.from({ length: 1000 }, (_, at) => at);
    const whole = checksumOf(bytes);
    for (let at = 0; at < bytes.length; at++) {
      bytes[at] ^= 1 << (at % 8);
      expect(checksumOf(bytes)).not.toBe(whole);
      bytes[at] ^= 1 << (at % 8);
    }
  });
});
