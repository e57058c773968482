/** Masks by keys: of each layer's positions, those of the smallest keys are kept. Nothing of the layer's size is held. */
import { type Layer, type MaskBlock, sizeOf } from "../../src/core/mask.ts";

/** The r positions of 0 … d−1 with the smallest keys, ascending; of equal keys the first. O(r) memory. */
export function smallest(d: number, r: number, key: (position: number) => number): Uint32Array {
  // A heap with the largest kept key on top; of equal keys the later position.
  const keys = new Float64Array(r);
  const positions = new Uint32Array(r);
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
  return positions.sort();
}

/**
 * A block for each layer, of r positions with the smallest keys. `keyOf` gives a parameter's keys by flat position; it is asked
 * for each layer's parameters in order, each from position 0 up.
 */
export function keyedMask(
  layers: readonly Layer[],
  r: readonly number[],
  keyOf: (parameter: string, layer: Layer) => (position: number) => number,
): MaskBlock[] {
  let offset = 0;
  return layers.map((layer, index) => {
    const kept = r[index] ?? 0;
    let start = 0;
    const parts = layer.parameters.map((parameter) => {
      const from = start;
      start += sizeOf(parameter);
      return { from, key: keyOf(parameter.name, layer) };
    });
    let part = 0;
    const key = (position: number) => {
      while (position >= (parts[part + 1]?.from ?? Number.POSITIVE_INFINITY)) part++;
      const { from, key } = parts[part] ?? { from: 0, key: () => 0 };
      return key(position - from);
    };
    const block = { layer: layer.name, offset, d: layer.d, r: kept, kept: smallest(layer.d, kept, key) };
    offset += kept;
    return block;
  });
}
