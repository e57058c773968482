/**
 * The eigenvectors of Σ G·Gᵀ and Σ Gᵀ·G of each parameter's gradients G over a calibration batch, and the mean squares of uᵀ·G·v in them.
 * A few passes: of a side up to some size the whole covariance, of a larger one the products with a subspace that is iterated; all
 * from the sides of G, so that nothing of its size exists.
 */
import * as ort from "onnxruntime-node";
import { random } from "../../src/core/random.ts";
import { examplesFirst } from "../autodiff/axes.ts";
import { matrixExtents, type Side, type Sides } from "../autodiff/sides.ts";
import { type CompileOptions, type Differentiable, differentiate, named, pruned, shares } from "../compile/compile.ts";
import { externalFiles, sessionBeside } from "../compile/external-data.ts";
import type { Builder } from "../onnx/builder.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { readModel, writeModel } from "../onnx/model.ts";
import { directionCounts, type Spectra } from "./eigenbasis.ts";
import { eigenvectors, orthonormalise, ritzVectors } from "./eigenvectors.ts";

/** Sides up to this size are decomposed whole; of larger ones, a subspace that has this many spare directions is iterated. */
const [WHOLE, SPARE] = [128, 10];
/** Passes over the calibration batch for subspaces: a third and a fourth changed no agreement with exact influence (MNIST, R = 512). */
const PASSES = 2;

type Feeds = Record<string, ort.Tensor>;
export type Batches = () => Iterable<Feeds | Promise<Feeds>> | AsyncIterable<Feeds>;

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

/** [B, k, T], float32: the side in directions [size, k]. */
function inDirections(b: Builder, side: Side, directions: Value): Value {
  const { value, axes } = side.turned(directions);
  return examplesFirst(b, b.cast(value, ELEMENT.float32), axes);
}

/** Σ over examples of (G·Gᵀ)·directions for the left side, (Gᵀ·G)·directions for the right one: [size, k]. */
function covarianceProduct(b: Builder, uses: readonly Sides[], which: Sought["which"], directions: Value): Value {
  const products = uses.map((use) => {
    const [own, other] = which === "left" ? [use.left, use.right] : [use.right, use.left];
    return b.scaled(own.spread(other.met(inDirections(b, own, directions))), use.scale ** 2);
  });
  return products.reduce(b.add);
}

/** Σ over examples of the squared entries in directions: [k, l]. */
function squares(b: Builder, uses: readonly Sides[], left: Value, right: Value): Value {
  const entries = uses
    .map((use) => {
      const turned = b.transpose(inDirections(b, use.right, right), [0, 2, 1]);
      return b.scaled(b.op("MatMul", [inDirections(b, use.left, left), turned]), use.scale);
    })
    .reduce(b.add);
  return b.sum(b.mul(entries, entries), [0]);
}

/** Runs a graph with directions as further inputs over the batches and adds up its outputs. */
async function sums(
  modelPath: string,
  { b, graph }: Differentiable,
  outputs: readonly Value[],
  given: Feeds,
  batches: Batches,
): Promise<{ sums: Map<string, Float64Array>; examples: number }> {
  const session = await sessionBeside(modelPath, writeModel(pruned(b, graph, outputs)), externalFiles(b).length > 0);
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
  modelPath: string,
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
  const { sums: found } = await sums(modelPath, model, outputs, given, batches);
  return sought.map(({ name, size, k }) => transposed(found.get(`Σ ${name}`) ?? new Float64Array(), size, k));
}

const identity = (n: number): Float64Array => {
  const rows = new Float64Array(n * n);
  for (let i = 0; i < n; i++) rows[i * (n + 1)] = 1;
  return rows;
};

/** Finds the eigenvectors, in place: afterwards each q is [wanted, size], by falling eigenvalue. */
async function findEigenvectors(
  modelPath: string,
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
    const products = await pass(modelPath, fresh, open, batches);
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
 * Measures the model at `modelPath` for a compressor that keeps `options.r`; `batches` gives the feeds of the calibration batch (inputs
 * and target) each time that it is called.
 * Throws as `compileGradient` does.
 */
export async function measureSpectra(
  modelPath: string,
  options: Pick<CompileOptions, "loss" | "output" | "layers" | "reduction" | "r" | "seed">,
  batches: Batches,
): Promise<Spectra> {
  const fresh = async () => differentiate(await readModel(modelPath), modelPath, options);
  const model = await fresh();
  const { b, gradients } = model;
  const turned = turnedParameters(model, shares(model.layers, options.r));
  const sought = turned.flatMap(({ parameter, r: own }) => {
    const [rows, columns] = matrixExtents(parameter.shape);
    const [high, wide] = directionCounts(parameter.shape, own);
    const side = (which: Sought["which"], size: number, wanted: number): Sought[] => {
      const k = size <= Math.max(WHOLE, wanted + SPARE) ? size : wanted + SPARE;
      const name = `${which} directions of ${parameter.name}`;
      return size === 1 ? [] : [{ name, parameter: parameter.name, which, size, wanted, k, q: new Float64Array() }];
    };
    return [...side("left", rows, high), ...side("right", columns, wide)];
  });
  if (turned.length === 0) return new Map();
  await findEigenvectors(modelPath, fresh, sought, options.seed, batches);

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
  const measured = await sums(modelPath, model, outputs, given, batches);
  return new Map(
    found.map(({ parameter, rows, columns, left, right, output }) => {
      const meanSquares = measured.sums.get(output.name)?.map((sum) => sum / measured.examples);
      return [parameter.name, { rows, columns, left, right, meanSquares: meanSquares ?? new Float64Array() }];
    }),
  );
}
