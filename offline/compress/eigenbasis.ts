/**
 * Eigenbasis dropout: a parameter's gradient G is seen in the leading eigenvectors u of Σ G·Gᵀ and v of Σ Gᵀ·G over a calibration
 * batch, and of the entries uᵀ·G·v of a layer those with the largest mean square are kept. In this basis the Gauss-Newton matrix is
 * nearly diagonal (George et al., arXiv 1806.03884), so that few entries hold most of it. What is not known as a matrix (a kernel in
 * groups, a parameter seen through slices) is kept by importance.
 */
import * as ort from "onnxruntime-node";
import { type Directions, type Layer, type MaskBlock, type Parameter, sizeOf } from "../../src/core/mask.ts";
import { random } from "../../src/core/random.ts";
import { examplesFirst, type PerExample } from "../autodiff/per-example.ts";
import { matrixExtents, type Side, type Sides } from "../autodiff/sides.ts";
import { type Differentiable, named, pruned } from "../compile/compile.ts";
import type { Builder } from "../onnx/builder.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { writeModel } from "../onnx/model.ts";
import { eigenvectors, orthonormalise, ritzVectors } from "./eigenvectors.ts";
import { type Calibration, importanceMask } from "./importance.ts";

/** Directions that are looked at on a side, for each row or column of the squarest grid of r entries. */
const WIDER = 4;
/** Sides up to this size are decomposed whole; of larger ones, a subspace that has this many spare directions is iterated. */
const [WHOLE, SPARE] = [256, 10];
/** Passes over the calibration batch for subspaces. */
const PASSES = 4;

/** What the calibration batch says of a parameter that is known as a matrix [rows, columns]. */
export interface Spectrum extends Directions {
  /** E[(uᵀ_a·G·v_c)²] at a · (number of v) + c. */
  meanSquares: Float64Array;
}

/** By parameter; those that are not known as matrices, or whose layers keep everything, have none. */
export type Spectra = ReadonlyMap<string, Spectrum>;

type Feeds = Record<string, ort.Tensor>;
export type Batches = () => Iterable<Feeds | Promise<Feeds>> | AsyncIterable<Feeds>;

/** Whether the parameter is kept in directions of its own. */
export const isTurned = (gradient: PerExample | undefined): boolean => gradient?.sides != null;

/** How many directions are looked at on each side of a parameter in a layer that keeps r. */
function directionCounts(parameter: Parameter, r: number): [number, number] {
  const [rows, columns] = matrixExtents(parameter.shape);
  const side = Math.max(1, Math.floor(Math.sqrt(r)));
  const wide = Math.min(columns, rows < side ? Math.max(1, Math.floor(r / rows)) : side);
  const high = Math.min(rows, Math.max(1, Math.floor(r / wide)));
  return [Math.min(rows, WIDER * high), Math.min(columns, WIDER * wide)];
}

/** A side whose eigenvectors are sought: rows q [k, size], orthonormal or not yet. */
interface Sought {
  name: string;
  parameter: string;
  which: "left" | "right";
  size: number;
  wanted: number;
  k: number;
  q: Float64Array;
}

/** The parameters that are turned, with r of their layer; a layer that keeps everything needs no directions. */
function turnedParameters({ layers, gradients }: Pick<Differentiable, "layers" | "gradients">, r: readonly number[]) {
  return layers.flatMap((layer, index) =>
    layer.parameters.flatMap((parameter) => {
      const own = r[index] ?? 0;
      const sides = gradients.get(parameter.name)?.sides;
      return sides && own < layer.d ? [{ parameter, sides, r: own }] : [];
    }),
  );
}

/** [B, k, T]: the side in directions [size, k]. */
function inDirections(b: Builder, side: Side, directions: Value): Value {
  const { value, axes } = side.turned(directions);
  return examplesFirst(b, value, axes);
}

/** Σ over examples of (G·Gᵀ)·directions for the left side, (Gᵀ·G)·directions for the right one: [size, k]. */
function covarianceProduct(b: Builder, uses: readonly Sides[], which: Sought["which"], directions: Value): Value {
  const products = uses.map((use) => {
    const [own, other] = which === "left" ? [use.left, use.right] : [use.right, use.left];
    return b.scaled(own.spread(other.met(inDirections(b, own, directions))), use.scale ** 2);
  });
  return b.cast(products.reduce(b.add), ELEMENT.float32);
}

/** Σ over examples of the squared entries in directions: [k, l]. */
function squares(b: Builder, uses: readonly Sides[], left: Value, right: Value): Value {
  const entries = uses
    .map((use) => {
      const turned = b.transpose(inDirections(b, use.right, right), [0, 2, 1]);
      return b.scaled(b.op("MatMul", [inDirections(b, use.left, left), turned]), use.scale);
    })
    .reduce(b.add);
  return b.cast(b.sum(b.mul(entries, entries), [0]), ELEMENT.float32);
}

/** Runs a graph with directions as further inputs over the batches and adds up its outputs. */
async function sums(
  { b, graph }: Differentiable,
  outputs: readonly Value[],
  given: Feeds,
  batches: Batches,
): Promise<{ sums: Map<string, Float64Array>; examples: number }> {
  const session = await ort.InferenceSession.create(writeModel(pruned(b, graph, outputs)));
  const found = new Map(outputs.map(({ name }) => [name, new Float64Array()]));
  let examples = 0;
  try {
    for await (const feeds of batches()) {
      examples += Math.max(...Object.values(feeds).map((tensor) => tensor.dims[0] ?? 0));
      const used = Object.entries({ ...feeds, ...given }).filter(([name]) => session.inputNames.includes(name));
      const results = await session.run(Object.fromEntries(used));
      for (const [name, total] of found) {
        const data = results[name]?.data;
        if (!(data instanceof Float32Array))
          throw new Error(`calibration: expected float32 sums, got ${results[name]?.type}`);
        if (total.length === 0) found.set(name, Float64Array.from(data));
        else for (const [index, entry] of data.entries()) total[index]! += entry;
      }
    }
  } finally {
    await session.release();
  }
  return { sums: found, examples };
}

const directionsInput = (b: Builder, name: string, size: number, k: number): Value =>
  b.addInput({ name, type: ELEMENT.float32, shape: [size, k] });

/** Rows [k, size] as the columns of a float32 tensor [size, k]. */
function columnsOf(rows: Float64Array, k: number, size: number): Float32Array {
  const columns = new Float32Array(rows.length);
  for (let i = 0; i < k; i++) for (let at = 0; at < size; at++) columns[at * k + i] = rows[i * size + at]!;
  return columns;
}

const transposed = (columns: Float64Array, size: number, k: number): Float64Array => {
  const rows = new Float64Array(columns.length);
  for (let at = 0; at < size; at++) for (let i = 0; i < k; i++) rows[i * size + at] = columns[at * k + i]!;
  return rows;
};

/** One pass: every side's q times its covariance, as rows. */
async function pass(
  fresh: () => Promise<Differentiable>,
  sought: readonly Sought[],
  batches: Batches,
): Promise<Float64Array[]> {
  const model = await fresh();
  const { b, gradients } = model;
  const outputs = sought.map(({ name, parameter, which, size, k }) => {
    const sides = gradients.get(parameter)?.sides ?? [];
    return named(b, covarianceProduct(b, sides, which, directionsInput(b, name, size, k)), `Σ ${name}`);
  });
  const given = Object.fromEntries(
    sought.map(({ name, q, k, size }) => [name, new ort.Tensor("float32", columnsOf(q, k, size), [size, k])]),
  );
  const { sums: found } = await sums(model, outputs, given, batches);
  return sought.map(({ name, size, k }) => transposed(found.get(`Σ ${name}`) ?? new Float64Array(), size, k));
}

const identity = (n: number): Float64Array => {
  const rows = new Float64Array(n * n);
  for (let i = 0; i < n; i++) rows[i * (n + 1)] = 1;
  return rows;
};

/** Finds the eigenvectors, in place: afterwards each q is [wanted, size], by falling eigenvalue. */
async function findEigenvectors(
  fresh: () => Promise<Differentiable>,
  sought: Sought[],
  seed: number | string,
  batches: Batches,
): Promise<void> {
  const generators = sought.map(({ name }) => random(seed, name));
  for (const [index, side] of sought.entries()) {
    const { normal } = generators[index]!;
    if (side.k === side.size) side.q = identity(side.size);
    else {
      side.q = Float64Array.from({ length: side.k * side.size }, normal);
      orthonormalise(side.q, side.k, side.size, generators[index]!);
    }
  }
  for (let round = 1; round <= PASSES; round++) {
    const open = sought.filter(({ k, size }) => round === 1 || k < size);
    if (open.length === 0) break;
    const products = await pass(fresh, open, batches);
    for (const [index, side] of open.entries()) {
      const product = products[index] ?? new Float64Array();
      const { k, size } = side;
      if (k === size) side.q = eigenvectors(product, size);
      else if (round === PASSES) side.q = ritzVectors(side.q, product, k, size);
      else {
        side.q = product;
        orthonormalise(side.q, k, size, generators[sought.indexOf(side)]!);
      }
    }
  }
  for (const side of sought) {
    side.q = side.q.slice(0, side.wanted * side.size);
    side.k = side.wanted;
  }
}

/**
 * Measures the eigenvectors and, in a further pass, the mean squares in them. `fresh` differentiates the model anew; `r` are the
 * layers' kept coordinates; `batches` gives the calibration batch each time that it is called.
 * Throws if it is empty.
 */
export async function calibrateEigenbasis(
  fresh: () => Promise<Differentiable>,
  r: (layers: readonly Layer[]) => number[],
  seed: number | string,
  batches: Batches,
): Promise<Spectra> {
  const model = await fresh();
  const { b, gradients } = model;
  const turned = turnedParameters(model, r(model.layers));
  const sought = turned.flatMap(({ parameter, r: own }) => {
    const [rows, columns] = matrixExtents(parameter.shape);
    const [high, wide] = directionCounts(parameter, own);
    const side = (which: Sought["which"], size: number, wanted: number): Sought[] => {
      const k = size <= Math.max(WHOLE, wanted + SPARE) ? size : wanted + SPARE;
      const name = `${which} directions of ${parameter.name}`;
      return size === 1 ? [] : [{ name, parameter: parameter.name, which, size, wanted, k, q: new Float64Array() }];
    };
    return [...side("left", rows, high), ...side("right", columns, wide)];
  });
  if (turned.length === 0) return new Map();
  await findEigenvectors(fresh, sought, seed, batches);

  const given: Feeds = {};
  const found = turned.map(({ parameter }) => {
    const [rows, columns] = matrixExtents(parameter.shape);
    const [left, right] = (["left", "right"] as const).map((which) => {
      const side = sought.find((candidate) => candidate.parameter === parameter.name && candidate.which === which);
      const name = `${which} directions of ${parameter.name}`;
      const [size, k] = side ? [side.size, side.k] : [1, 1];
      const entries = side ? columnsOf(side.q, k, size) : Float32Array.of(1);
      given[name] = new ort.Tensor("float32", entries, [size, k]);
      return { entries, value: directionsInput(b, name, size, k) };
    });
    if (!left || !right) throw new Error(`parameter ${parameter.name}: expected two sides`);
    const uses = gradients.get(parameter.name)?.sides ?? [];
    const output = named(b, squares(b, uses, left.value, right.value), `squares of ${parameter.name}`);
    return { parameter, rows, columns, left: left.entries, right: right.entries, output };
  });
  const outputs = found.map(({ output }) => output);
  const measured = await sums(model, outputs, given, batches);
  return new Map(
    found.map(({ parameter, rows, columns, left, right, output }) => {
      const meanSquares = measured.sums.get(output.name)?.map((sum) => sum / measured.examples);
      return [parameter.name, { rows, columns, left, right, meanSquares: meanSquares ?? new Float64Array() }];
    }),
  );
}

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
