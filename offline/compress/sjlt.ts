/**
 * Sparse Johnson-Lindenstrauss transform of kept coordinates (mask, then SJLT: GraSS, arXiv 2505.18976): of each layer several times r
 * entries are kept, and added with random signs into r places. Each place is given equally many, which the transform does not ask
 * for, but which makes the sums one reduction.
 */
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";

/** Kept coordinates for each place, where the layer has so many. */
const KEPT = 8;

/** How many coordinates of each layer are to be kept for places r. */
export const keptForPlaces = (layers: readonly Layer[], r: readonly number[]): number[] =>
  layers.map(({ d }, index) => {
    const places = r[index] ?? 1;
    return places * Math.min(KEPT, Math.floor(d / places));
  });

/** A mask of `keptForPlaces` coordinates, folded into r places a layer. */
export function folded(mask: readonly MaskBlock[], r: readonly number[], seed: number | string): MaskBlock[] {
  let offset = 0;
  return mask.map((block, index) => {
    const places = r[index] ?? 0;
    const own = { ...block, offset, r: places };
    offset += places;
    return block.kept.length === places ? own : { ...own, folded: placesOf(block, places, seed) };
  });
}

/** A place for each kept coordinate, ~place where it is subtracted: the places dealt out in turn to the coordinates in random order. */
function placesOf({ layer, kept }: MaskBlock, places: number, seed: number | string): Int32Array {
  const generator = random(seed, `sjlt/${layer}`);
  const order = Uint32Array.from({ length: kept.length }, (_, rank) => rank);
  for (let last = order.length - 1; last > 0; last--) {
    const other = generator.below(last + 1);
    [order[last], order[other]] = [order[other] ?? 0, order[last] ?? 0];
  }
  const result = new Int32Array(kept.length);
  order.forEach((rank, turn) => {
    const place = turn % places;
    result[rank] = generator.uint32() & 1 ? place : ~place;
  });
  return result;
}
