/** Masks by keys: of each layer's positions, those of the smallest keys are kept. Nothing of the layer's size is held. */
import { type Layer, type MaskBlock, sampleWithoutReplacement, sizeOf } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";

/** A position and its key. */
export interface Candidate {
  position: number;
  key: number;
}

/** By key; of equal keys the first position. */
export const byKey = (a: Candidate, b: Candidate): number => a.key - b.key || a.position - b.position;

/** The r positions of 0 … d−1 with the smallest keys, ascending; of equal keys the first. O(r) memory, d keys. */
export function smallest(d: number, r: number, key: (position: number) => number): Uint32Array {
  return Uint32Array.from(smallestOf(d, r, key), ({ position }) => position).sort();
}

/** The same with their keys, in no order. */
export function smallestOf(d: number, r: number, key: (position: number) => number): Candidate[] {
  // A heap with the largest kept key on top; of equal keys the later position.
  const keys = new Float64Array(r);
  const positions = new Float64Array(r);
  let size = 0;
  const keyAt = (index: number): number => keys[index] ?? Number.NEGATIVE_INFINITY;
  const positionAt = (index: number): number => positions[index] ?? 0;
  const put = (index: number, k: number, position: number) => {
    keys[index] = k;
    positions[index] = position;
  };
  /** Whether entry `index` belongs above (k, position). */
  const above = (index: number, k: number, position: number) =>
    keyAt(index) > k || (keyAt(index) === k && positionAt(index) > position);
  for (let position = 0; position < d; position++) {
    const k = key(position);
    if (size < r) {
      let child = size++;
      for (let parent = (child - 1) >> 1; child > 0 && !above(parent, k, position); parent = (child - 1) >> 1) {
        put(child, keyAt(parent), positionAt(parent));
        child = parent;
      }
      put(child, k, position);
    } else if (k < keyAt(0)) {
      let parent = 0;
      for (let child = 1; child < r; child = 2 * parent + 1) {
        if (child + 1 < r && above(child + 1, keyAt(child), positionAt(child))) child++;
        if (!above(child, k, position)) break;
        put(parent, keyAt(child), positionAt(child));
        parent = child;
      }
      put(parent, k, position);
    }
  }
  return Array.from({ length: size }, (_, index) => ({ position: positionAt(index), key: keyAt(index) }));
}

/**
 * A block for each layer, of r positions with the smallest keys. `candidatesOf` gives the r smallest of a parameter's finite keys, or all
 * where it has fewer. Positions without a finite key are kept only where all others are, each subset of them equally likely.
 * Throws RangeError if r exceeds a layer's entries, or these 2³² − 1.
 */
export function keyedMask(
  layers: readonly Layer[],
  r: readonly number[],
  seed: number | string,
  candidatesOf: (parameter: string, r: number) => Candidate[],
): MaskBlock[] {
  let offset = 0;
  return layers.map((layer, index) => {
    const count = r[index] ?? 0;
    if (count > layer.d || layer.d > 0xffffffff) {
      const most = Math.min(layer.d, 0xffffffff);
      throw new RangeError(
        `layer ${layer.name}: expected at most ${most} entries, got ${Math.max(count, layer.d)}; choose a smaller r, or a part of the layer`,
      );
    }
    let start = 0;
    const found = layer.parameters.flatMap((parameter) => {
      const from = start;
      start += sizeOf(parameter);
      return candidatesOf(parameter.name, count).map(({ position, key }) => ({ position: from + position, key }));
    });
    const chosen = found.sort(byKey).slice(0, count);
    const positions = chosen.map(({ position }) => position);
    const rest = positions.length < count ? others(layer, count - positions.length, positions, seed) : [];
    const kept = Uint32Array.from(positions.concat(rest)).sort();
    const block = { layer: layer.name, offset, d: layer.d, r: count, kept };
    offset += count;
    return block;
  });
}

/** `count` positions of the layer that are not among the taken ones. */
function others(layer: Layer, count: number, taken: readonly number[], seed: number | string): number[] {
  const { below } = random(seed, `others/${layer.name}`);
  const ascending = Float64Array.from(taken).sort();
  // Ranks among what is not taken, both ascending: as many positions are skipped as taken ones lie before.
  let skipped = 0;
  return Array.from(sampleWithoutReplacement(layer.d - taken.length, count, below), (rank) => {
    while (skipped < ascending.length && (ascending[skipped] ?? 0) <= rank + skipped) skipped++;
    return rank + skipped;
  });
}
