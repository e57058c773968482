/** Compression of a whole gradient, for one that was computed elsewhere: what gradient.onnx gives, from the d entries. */
import { type Directions, type Layer, type MaskBlock, sizeOf } from "./mask.ts";

/** A parameter's part of a block: of its kept coordinates, their ranks in the block and their positions in the parameter. */
export interface KeptPart {
  parameter: Layer["parameters"][number];
  /** Position of its first entry in the layer. */
  start: number;
  directions: Directions | null;
  positions: Uint32Array;
  ranks: Uint32Array;
}

export function keptParts(layer: Layer, block: MaskBlock): KeptPart[] {
  let start = 0;
  let rank = 0;
  return layer.parameters.map((parameter, index) => {
    const from = start;
    start += sizeOf(parameter);
    const first = rank;
    while (rank < block.kept.length && (block.kept[rank] ?? 0) < start) rank++;
    return {
      parameter,
      start: from,
      directions: block.directions?.[index] ?? null,
      positions: block.kept.slice(first, rank).map((position) => position - from),
      ranks: Uint32Array.from({ length: rank - first }, (_, index) => first + index),
    };
  });
}

/** The entries uᵀ_a·G·v_c at positions a · columns + c, of G [rows, columns] = `gradient` from `start` on, in float64. */
function seenIn(
  { rows, columns, left, right }: Directions,
  positions: Uint32Array,
  gradient: ArrayLike<number>,
  start: number,
): Float64Array {
  const [lefts, rights] = [left.length / rows, right.length / columns];
  const result = new Float64Array(positions.length);
  const line = new Float64Array(columns);
  let of = -1;
  positions.forEach((position, index) => {
    const [a, c] = [Math.floor(position / columns), position % columns];
    if (a !== of) {
      // Positions ascend: uᵀ_a·G serves all entries of one a.
      of = a;
      line.fill(0);
      for (let row = 0; row < rows; row++) {
        const weight = left[row * lefts + a] ?? 0;
        if (weight === 0) continue;
        const from = start + row * columns;
        for (let column = 0; column < columns; column++) line[column]! += weight * (gradient[from + column] ?? 0);
      }
    }
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += line[column]! * (right[column * rights + c] ?? 0);
    result[index] = sum;
  });
  return result;
}

/** What makes [r] of a layer's d gradient entries, the first of which is `gradient[first]`; sums in float64. */
export function layerCompressor(
  layer: Layer,
  block: MaskBlock,
): (gradient: ArrayLike<number>, first: number) => Float64Array {
  const parts = keptParts(layer, block);
  const { folded, r } = block;
  return (gradient, first) => {
    const entries = new Float64Array(block.kept.length);
    for (const { start, directions, positions, ranks } of parts) {
      if (directions) entries.set(seenIn(directions, positions, gradient, first + start), ranks[0] ?? 0);
      else for (const [index, at] of positions.entries()) entries[ranks[index]!] = gradient[first + start + at]!;
    }
    if (!folded) return entries;
    const result = new Float64Array(r);
    folded.forEach((place, rank) => {
      if (place >= 0) result[place]! += entries[rank]!;
      else result[~place]! -= entries[rank]!;
    });
    return result;
  };
}
