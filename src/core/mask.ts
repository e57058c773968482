/**
 * Dropout as compression (§3.1, eq. 3, arXiv 2509.15651): of a layer's d gradient entries, r are kept, chosen once from a
 * seed. The projection is never built: a mask is the sorted list of kept positions of each layer.
 */
import { random } from "./random.ts";

/** A parameter tensor as the model names it. */
export interface Parameter {
  name: string;
  shape: number[];
}

/** One block of the Hessian: the parameters of one module. Its d positions are its parameters' entries, row-major, one parameter after another. */
export interface Layer {
  name: string;
  parameters: Parameter[];
  d: number;
}

/**
 * Orthonormal directions that a parameter's gradient, as a matrix G [rows, columns], is seen in: its entry (a, c) is then uᵀ_a·G·v_c.
 * The directions that nothing kept needs are left out; the count of those that are there says how many.
 */
export interface Directions {
  /** The parameter's first extent above 1, and the product of the extents after it. */
  rows: number;
  columns: number;
  /** The u as columns, [rows, left.length ÷ rows], and the v, [columns, right.length ÷ columns]. */
  left: Float32Array;
  right: Float32Array;
}

/** What is kept of one layer: it is positions `offset` … `offset + r − 1` of the R-dimensional vector. */
export interface MaskBlock {
  layer: string;
  offset: number;
  d: number;
  r: number;
  /**
   * Ascending positions in 0 … d−1: [r], or more where they are folded. In a parameter with directions, that begins at position p, the
   * entry (a, c) is position p + a · columns + c.
   */
  kept: Uint32Array;
  /** One for each parameter of the layer, null for one that is kept as it is; absent where all are. */
  directions?: (Directions | null)[];
  /** [kept.length], SJLT: the place in 0 … r−1 to which a kept coordinate is added, or ~place if it is subtracted. */
  folded?: Int32Array;
}

/** The number of entries of a parameter. */
export function sizeOf(parameter: Parameter): number {
  return parameter.shape.reduce((product, extent) => product * extent, 1);
}

/**
 * Splits a total of R coordinates equally over layers of the given sizes; a layer smaller than its share keeps all it has and
 * passes the rest on. What does not divide evenly goes to the earlier layers.
 * Throws RangeError if R exceeds the sum of the sizes, or is no positive integer.
 */
export function splitEqually(sizes: readonly number[], total: number): number[] {
  const d = sizes.reduce((sum, size) => sum + size, 0);
  if (!Number.isInteger(total) || total < 1) throw new RangeError(`r: expected a positive integer, got ${total}`);
  if (total > d) {
    throw new RangeError(
      `r: expected at most d = ${d}, the entries of the chosen layers, got ${total}; choose a smaller r`,
    );
  }
  const shares = sizes.map(() => 0);
  let left = total;
  let open = sizes.map((_, index) => index);
  while (left > 0) {
    const share = Math.floor(left / open.length);
    const full = open.filter((index) => (sizes[index] ?? 0) <= share);
    if (full.length === 0) {
      const remainder = left - share * open.length;
      open.forEach((index, rank) => {
        shares[index] = share + (rank < remainder ? 1 : 0);
      });
      return shares;
    }
    for (const index of full) {
      shares[index] = sizes[index] ?? 0;
      left -= sizes[index] ?? 0;
    }
    open = open.filter((index) => !full.includes(index));
  }
  return shares;
}

/** r distinct integers of 0 … d−1, each subset equally likely, ascending (Floyd's algorithm: O(r) memory). */
export function sampleWithoutReplacement(d: number, r: number, draw: (bound: number) => number): Uint32Array {
  const chosen = new Set<number>();
  for (let top = d - r; top < d; top++) {
    const candidate = draw(top + 1);
    chosen.add(chosen.has(candidate) ? top : candidate);
  }
  return Uint32Array.from(chosen).sort();
}

/** The paper's mask: each layer keeps r of its d coordinates uniformly at random. */
export function uniformMask(layers: readonly Layer[], r: readonly number[], seed: number | string): MaskBlock[] {
  let offset = 0;
  return layers.map((layer, index) => {
    const kept = r[index] ?? 0;
    if (kept > layer.d) {
      throw new RangeError(
        `r of layer ${layer.name}: expected at most d = ${layer.d}, got ${kept}; choose a smaller r`,
      );
    }
    if (layer.d > 0xffffffff) {
      throw new RangeError(
        `layer ${layer.name}: expected at most ${0xffffffff} entries, got ${layer.d}; choose a part of it`,
      );
    }
    const generator = random(seed, `mask/${layer.name}`);
    const block = {
      layer: layer.name,
      offset,
      d: layer.d,
      r: kept,
      kept: sampleWithoutReplacement(layer.d, kept, generator.below),
    };
    offset += kept;
    return block;
  });
}
