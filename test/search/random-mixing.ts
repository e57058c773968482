/** Mixings that no data asks for, for tests. */
import { inverse, Matrix } from "ml-matrix";
import type { MixingDesign } from "../../offline/index/mixing.ts";
import { columnBytes } from "../../src/core/mixing.ts";
import type { Random } from "../../src/core/random.ts";

/**
 * A mixing of R > 16 coordinates in blocks of random widths, and a head of 16 or more. Its matrices are far from singular, as a mixing's
 * must be. Its columns are alike, and then intervals exclude most rows, or, where they are `uneven`, of sizes that differ by 2¹².
 */
export function randomMixing(R: number, generator: Random, uneven = generator.below(2) === 0): MixingDesign {
  const blocks: number[] = [];
  for (let left = R; left > 0; left -= blocks.at(-1)!) blocks.push(Math.min(left, 1 + generator.below(40)));
  const exponents = new Int16Array(R);
  const entries = new Int8Array(blocks.reduce((sum, width) => sum + width * columnBytes(width), 0));
  const inverses: Float64Array[] = [];
  let column = 0;
  let at = 0;
  for (const width of blocks) {
    const matrix = Matrix.zeros(width, width);
    for (let j = 0; j < width; j++, column++, at += columnBytes(width)) {
      exponents[column] = 4 + generator.below(uneven ? 12 : 1);
      for (let i = 0; i < width; i++) {
        const entry = i === j ? 127 : generator.below(2 * Math.floor(100 / width) + 1) - Math.floor(100 / width);
        entries[at + i] = entry;
        matrix.set(i, j, entry * 2 ** exponents[column]!);
      }
    }
    inverses.push(Float64Array.from(inverse(matrix).to1DArray()));
  }
  const places = Uint32Array.from({ length: R }, (_, j) => j);
  for (let j = R - 1; j > 0; j--) {
    const other = generator.below(j + 1);
    [places[j], places[other]] = [places[other]!, places[j]!];
  }
  const head = 16 * (1 + generator.below(Math.ceil(R / 16) - 1));
  return { mixing: { blocks, exponents, places, entries }, inverses, head };
}
