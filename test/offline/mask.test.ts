import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { layerCompressor } from "../../src/core/compress.ts";
import { type Layer, type MaskBlock, splitEqually, uniformMask } from "../../src/core/mask.ts";
import { decodeMask, encodeMask, maskShapes } from "../../src/core/mask-file.ts";

const layers: Layer[] = [
  { name: "conv1", parameters: [{ name: "conv1.weight", shape: [8, 1, 3, 3] }], d: 72 },
  { name: "fc1", parameters: [{ name: "fc1.weight", shape: [64, 784] }], d: 50_176 },
];

describe("the split of R over layers", () => {
  test("a layer smaller than its share keeps all it has and passes the rest on", () => {
    expect(splitEqually([80, 1168, 50_240, 650], 512)).toEqual([80, 144, 144, 144]);
    expect(splitEqually([10, 10, 10], 11)).toEqual([4, 4, 3]);
  });

  test("shares sum to the total, none exceeds its layer, and layers that are not full differ by one at most", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(sizes, fc.double({ min: 0, max: 1, noNaN: true }), (extents, part) => {
        const d = extents.reduce((sum, size) => sum + size, 0);
        const total = Math.max(1, Math.floor(part * d));
        const shares = splitEqually(extents, total);
        expect(shares.reduce((sum, share) => sum + share, 0)).toBe(total);
        const open = shares.filter((share, index) => share < extents[index]!);
        expect(shares.every((share, index) => share <= extents[index]!)).toBe(true);
        if (open.length > 0) expect(Math.max(...shares) - Math.min(...open)).toBeLessThanOrEqual(1);
      }),
    );
  });

  test("more coordinates than entries is refused with both numbers", () => {
    expect(() => splitEqually([3, 4], 8)).toThrow("r: expected at most d = 7, the entries of the chosen layers, got 8");
  });
});

describe("the uniform mask", () => {
  test("is the same on every platform: the first positions for seed 1", () => {
    const [conv1, fc1] = uniformMask(layers, [4, 6], 1);
    expect({ conv1: [...conv1!.kept], fc1: [...fc1!.kept] }).toMatchInlineSnapshot(`
      {
        "conv1": [
          2,
          9,
          32,
          38,
        ],
        "fc1": [
          12770,
          23481,
          26013,
          27460,
          36809,
          36881,
        ],
      }
    `);
  });

  test("keeps distinct ascending positions, another set for another seed", () => {
    const [block] = uniformMask([layers[1]!], [1000], 7);
    expect(new Set(block!.kept).size).toBe(1000);
    expect([...block!.kept]).toEqual([...block!.kept].sort((a, b) => a - b));
    expect([...uniformMask([layers[1]!], [1000], 8)[0]!.kept]).not.toEqual([...block!.kept]);
  });

  test("keeps every position equally often (χ² over 64 cells of 2,000 draws)", () => {
    const counts = new Array(64).fill(0);
    for (let seed = 0; seed < 2000; seed++) {
      const [block] = uniformMask([{ name: "l", parameters: [], d: 64 }], [8], seed);
      for (const position of block!.kept) counts[position]++;
    }
    const expected = (2000 * 8) / 64;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chiSquare).toBeLessThan(110); // 63 degrees of freedom: beyond the 99.9 % quantile of 103
  });

  test("survives its file", () => {
    const mask = uniformMask(layers, [4, 6], 1);
    expect(decodeMask(encodeMask(mask), maskShapes(layers, mask))).toEqual(mask);
  });
});

describe("directions and folding", () => {
  const two: Layer[] = [
    { name: "plain", parameters: [{ name: "plain.weight", shape: [5] }], d: 5 },
    {
      name: "dense",
      parameters: [
        { name: "dense.weight", shape: [3, 4] },
        { name: "dense.bias", shape: [3] },
      ],
      d: 15,
    },
  ];
  const half = Math.SQRT1_2;
  const mask: MaskBlock[] = [
    { layer: "plain", offset: 0, d: 5, r: 2, kept: Uint32Array.of(1, 4) },
    {
      layer: "dense",
      offset: 2,
      d: 15,
      r: 2,
      kept: Uint32Array.of(0, 1, 4, 13),
      folded: Int32Array.of(0, ~1, 1, ~0),
      directions: [
        {
          rows: 3,
          columns: 4,
          left: Float32Array.of(1, 0, 0, half, 0, half),
          right: Float32Array.of(0, half, 1, 0, 0, half, 0, 0),
        },
        null,
      ],
    },
  ];

  test("survive their file, which has no other bytes", () => {
    const bytes = encodeMask(mask);
    expect(decodeMask(bytes, maskShapes(two, mask))).toEqual(mask);
    const longer = new Uint8Array(bytes.length + 4);
    longer.set(bytes);
    for (const wrong of [bytes.slice(0, -4), longer]) {
      expect(() => decodeMask(wrong, maskShapes(two, mask))).toThrow(/mask.bin: expected \d+ bytes/);
    }
    expect(() => decodeMask(bytes, maskShapes(two, mask).slice(0, 1))).toThrow("mask.bin: expected a header");
  });

  test("compress a gradient as it is worked out by hand", () => {
    const gradient = [9, 1, 2, 3, 4, /* G */ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, /* bias */ 20, 30, 40];
    expect([...layerCompressor(two[0]!, mask[0]!)(gradient, 0)]).toEqual([1, 4]);
    // u₀ᵀG = (1, 2, 3, 4): with v₀ 2, with v₁ (1 + 3)/√2. u₁ᵀG = (14, 16, 18, 20)/√2: with v₀ 16/√2. The bias: 30.
    const [first = 0, second = 0] = layerCompressor(two[1]!, mask[1]!)(gradient, 5);
    expect(first).toBeCloseTo(2 - 30, 5);
    expect(second).toBeCloseTo(-4 * half + 16 * half, 5);
  });
});
