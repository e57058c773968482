/**
 * Eigenbasis dropout: a parameter's gradient G is seen in the leading eigenvectors u of Σ G·Gᵀ and v of Σ Gᵀ·G over a calibration
 * batch, and of the entries uᵀ·G·v of a layer those with the largest mean square are kept. In this basis the Gauss-Newton matrix is
 * nearly diagonal (George et al., arXiv 1806.03884), so that few entries hold most of it. What is not known as a matrix (a kernel in
 * groups, a parameter seen through slices) is kept by importance.
 *
 * Layers share R equally: shares by their spectra, the R largest of all mean squares in units of their layer's sum, agree less at a
 * small R and hardly more at a large one (MNIST, Spearman at R = 512: .810 against .823; at 2,048: .971 against .961).
 */
import { type Directions, type Layer, type MaskBlock, sizeOf } from "../../src/core/mask.ts";
import type { PerExample } from "../autodiff/per-example.ts";
import { matrixExtents } from "../autodiff/sides.ts";
import { type Calibration, importanceMask } from "./importance.ts";

/** Directions that are looked at on a side, for each row or column of the squarest grid of r entries. */
const WIDER = 4;

/** How many directions are looked at on each side of a parameter in a layer that keeps r. */
export function directionCounts(shape: readonly number[], r: number): [number, number] {
  const [rows, columns] = matrixExtents(shape);
  const side = Math.max(1, Math.floor(Math.sqrt(r)));
  const wide = Math.min(columns, rows < side ? Math.max(1, Math.floor(r / rows)) : side);
  const high = Math.min(rows, Math.max(1, Math.floor(r / wide)));
  return [Math.min(rows, WIDER * high), Math.min(columns, WIDER * wide)];
}

/** What the calibration batch says of a parameter that is known as a matrix [rows, columns]. */
export interface Spectrum extends Directions {
  /** E[(uᵀ_a·G·v_c)²] at a · (number of v) + c. */
  meanSquares: Float64Array;
}

/** By parameter; those that are not known as matrices, or whose layers keep everything, have none. */
export type Spectra = ReadonlyMap<string, Spectrum>;

/** Of each layer the r entries of largest mean square. A parameter that is not turned has a share by its size. */
export function eigenbasisMask(
  layers: readonly Layer[],
  r: readonly number[],
  seed: number | string,
  gradients: ReadonlyMap<string, PerExample>,
  spectra: Spectra,
  calibration: Calibration | undefined,
): MaskBlock[] {
  let offset = 0;
  return layers.map((layer, index) => {
    const own = r[index] ?? 0;
    const block = { layer: layer.name, offset, d: layer.d, r: own };
    offset += own;
    if (own === layer.d) return { ...block, kept: Uint32Array.from({ length: own }, (_, position) => position) };
    return { ...block, ...keptOf(layer, own, seed, gradients, spectra, calibration) };
  });
}

/** Kept entries of a layer, and the directions that they need. */
function keptOf(
  layer: Layer,
  r: number,
  seed: number | string,
  gradients: ReadonlyMap<string, PerExample>,
  spectra: Spectra,
  importance: Calibration | undefined,
): Pick<MaskBlock, "kept" | "directions"> {
  const plain = layer.parameters.filter(({ name }) => !spectra.has(name));
  const turned = layer.parameters.filter(({ name }) => spectra.has(name));
  const most = turned.reduce((sum, { name }) => sum + (spectra.get(name)?.meanSquares.length ?? 0), 0);
  const sizes = plain.reduce((sum, parameter) => sum + sizeOf(parameter), 0);
  const drawn = Math.max(r - most, Math.min(r, sizes, Math.round((r * sizes) / layer.d)));
  const kept = new Map<string, Uint32Array>();
  if (drawn > 0) {
    if (!importance)
      throw new Error(`layer ${layer.name}: expected the importance of its entries, got none; calibrate again`);
    const [block] = importanceMask(
      [{ name: layer.name, parameters: plain, d: sizes }],
      [drawn],
      seed,
      gradients,
      importance,
    );
    let start = 0;
    for (const parameter of plain) {
      const [from, to] = [start, start + sizeOf(parameter)];
      start = to;
      kept.set(
        parameter.name,
        (block?.kept ?? new Uint32Array()).filter((at) => at >= from && at < to).map((at) => at - from),
      );
    }
  }
  const best = turned
    .flatMap(({ name }) =>
      Array.from(spectra.get(name)?.meanSquares ?? [], (meanSquare, at) => ({ name, at, meanSquare })),
    )
    .sort((p, q) => q.meanSquare - p.meanSquare)
    .slice(0, r - drawn);
  const directions = layer.parameters.map(({ name }) => {
    const spectrum = spectra.get(name);
    const chosen = best.filter((entry) => entry.name === name).map(({ at }) => at);
    if (!spectrum || chosen.length === 0) return null;
    const used = usedDirections(spectrum, chosen);
    kept.set(name, used.positions);
    return used.directions;
  });
  let start = 0;
  const positions = layer.parameters.flatMap((parameter) => {
    const from = start;
    start += sizeOf(parameter);
    return Array.from(kept.get(parameter.name) ?? [], (position) => from + position);
  });
  return { kept: Uint32Array.from(positions), directions };
}

/** The directions that entries need, and the entries' positions in these. */
function usedDirections({ rows, columns, left, right }: Spectrum, entries: readonly number[]) {
  const [lefts, rights] = [left.length / rows, right.length / columns];
  const pairs = entries.map((at) => [Math.floor(at / rights), at % rights] as const);
  const ascending = (list: number[]) => [...new Set(list)].sort((a, b) => a - b);
  const [as, cs] = [ascending(pairs.map(([a]) => a)), ascending(pairs.map(([, c]) => c))];
  const [rankOfA, rankOfC] = [new Map(as.map((a, rank) => [a, rank])), new Map(cs.map((c, rank) => [c, rank]))];
  const picked = (of: Float32Array, count: number, extent: number, chosen: number[]) =>
    Float32Array.from({ length: extent * chosen.length }, (_, index) => {
      const row = Math.floor(index / chosen.length);
      return of[row * count + (chosen[index % chosen.length] ?? 0)] ?? 0;
    });
  return {
    directions: { rows, columns, left: picked(left, lefts, rows, as), right: picked(right, rights, columns, cs) },
    positions: Uint32Array.from(pairs, ([a, c]) => (rankOfA.get(a) ?? 0) * columns + (rankOfC.get(c) ?? 0)).sort(),
  };
}
