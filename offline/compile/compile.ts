/** The gradient compiler: from a forward ONNX model to one that gives each example's compressed gradient. */
import { type Layer, type MaskBlock, splitEqually, uniformMask } from "../../src/core/mask.ts";
import { backward } from "../autodiff/backward.ts";
import { type LossKind, lossOf, targetInput, targetOf } from "../autodiff/losses.ts";
import type { PerExample } from "../autodiff/per-example.ts";
import { eigenbasisMask, type Spectra } from "../compress/eigenbasis.ts";
import { gridMask } from "../compress/grid.ts";
import { type Calibration, importanceMask } from "../compress/importance.ts";
import { candidatesOf, chooseParameters, groupLayers } from "../compress/layers.ts";
import { folded, keptForPlaces } from "../compress/sjlt.ts";
import { type Builder, createBuilder } from "../onnx/builder.ts";
import { ELEMENT, type Graph, type Port, type Value } from "../onnx/graph.ts";
import { readModel, tensorTypeName, writeModel } from "../onnx/model.ts";
import { externalFiles } from "./external-data.ts";
import { gathered } from "./gathered.ts";

export type { LossKind } from "../autodiff/losses.ts";

import { ancestors } from "../autodiff/walk.ts";

export interface CompileOptions {
  loss: LossKind;
  /** Name of the graph output that the loss reads; by default the first. */
  output?: string;
  /** Patterns of parameter names, "!" before one excludes; by default all trained parameters that reach the loss. */
  layers?: readonly string[];
  /** Kept coordinates: in total, split equally over the layers, or of each layer (one with fewer entries keeps all). */
  r: { total: number } | { perLayer: number };
  /**
   * Which coordinates are kept: uniformly (the paper's), by factored importance (needs `calibration`), rows × columns, or the largest in
   * the gradient's eigenbasis (needs `spectra`), or eight times as many by importance, added with random signs into so many.
   */
  compressor: "uniform" | "importance" | "grid" | "eigenbasis" | "sjlt";
  /** From `calibrate` (offline/compress/calibrate.ts), for all but uniform and grid. */
  calibration?: Calibration;
  /** From `measureSpectra` (offline/compress/spectra.ts). */
  spectra?: Spectra;
  seed: number | string;
  /** "whole" forms each example's whole gradient of a layer first, only to compare with; by default each layer's cheapest plan. */
  plan?: "cheapest" | "whole";
  /** For next-token: whether an example's loss is the mean (the default) or the sum over its counted positions. */
  reduction?: "mean" | "sum";
}

export interface GraphInput {
  name: string;
  /** As `ort.Tensor` takes it. */
  type: string;
  shape: (number | string)[];
}

export interface CompiledGradient {
  /** gradient.onnx: inputs of the model and `target` → `loss` [B], `gradient` [B, R], both float32, and the model's outputs. */
  graph: Uint8Array;
  layers: Layer[];
  mask: MaskBlock[];
  /** R. */
  dimension: number;
  inputs: GraphInput[];
  /** Null where an output of the model already is the loss. */
  target: GraphInput | null;
  outputs: string[];
  /** External data files that the graph refers to: they must lie beside it. */
  externalData: string[];
}

/** A model with its loss, ready to be differentiated. */
export interface Differentiable {
  b: Builder;
  graph: Graph;
  loss: Value;
  target: Port | null;
  /** The parameters' gradients by name, not yet computed. */
  gradients: Map<string, PerExample>;
  layers: Layer[];
}

/**
 * Compiles the model at `modelPath`.
 * Throws if the model cannot be read, an operator on the way from a parameter to the loss has no rule or combines examples, the
 * loss does not fit, a layer pattern matches nothing; RangeError if r exceeds the parameters.
 */
export async function compileGradient(modelPath: string, options: CompileOptions): Promise<CompiledGradient> {
  const { b, graph, loss, target, gradients, layers } = differentiate(await readModel(modelPath), modelPath, options);
  const mask = maskOf(layers, gradients, options);
  const gradient = named(b, gathered(b, layers, mask, gradients, options.plan ?? "cheapest"), "gradient");
  const lossName = named(b, b.cast(loss, ELEMENT.float32), "loss");
  const outputs = graph.outputs.map((output) => output.name);
  const bytes = writeModel(pruned(b, graph, [lossName, gradient, ...outputs.map((name) => b.value(name))]));
  return {
    graph: bytes,
    layers,
    mask,
    dimension: mask.reduce((sum, block) => sum + block.r, 0),
    inputs: b.inputs.filter((port) => port !== target).map(describe),
    target: target && describe(target),
    outputs,
    externalData: externalFiles(b),
  };
}

function maskOf(
  layers: readonly Layer[],
  gradients: ReadonlyMap<string, PerExample>,
  { compressor, r, seed, calibration, spectra }: CompileOptions,
): MaskBlock[] {
  const kept = shares(layers, r);
  switch (compressor) {
    case "uniform":
      return uniformMask(layers, kept, seed);
    case "grid":
      return gridMask(layers, kept, seed, gradients);
    case "importance":
      return importanceMask(layers, kept, seed, gradients, needed(calibration, compressor));
    case "sjlt": {
      const wide = keptForPlaces(layers, kept);
      return folded(importanceMask(layers, wide, seed, gradients, needed(calibration, compressor)), kept, seed);
    }
    case "eigenbasis":
      if (spectra) return eigenbasisMask(layers, kept, seed, gradients, spectra, calibration);
      throw new Error("compressor eigenbasis: expected this model's spectra, got none; run measureSpectra first");
  }
}

function needed(calibration: Calibration | undefined, compressor: string): Calibration {
  if (calibration) return calibration;
  throw new Error(`compressor ${compressor}: expected a calibration of this model, got none; run calibrate first`);
}

export const describe = (port: Port): GraphInput => ({
  name: port.name,
  type: tensorTypeName(port.type),
  shape: port.shape,
});

/** The kept coordinates of each layer. */
export function shares(layers: readonly Layer[], r: CompileOptions["r"]): number[] {
  const sizes = layers.map((layer) => layer.d);
  if ("total" in r) return splitEqually(sizes, r.total);
  if (!Number.isInteger(r.perLayer) || r.perLayer < 1) {
    throw new RangeError(`r: expected a positive integer per layer, got ${r.perLayer}`);
  }
  return sizes.map((size) => Math.min(size, r.perLayer));
}

/** Reads the graph forward, adds the loss and walks back to the chosen parameters. */
export function differentiate(
  model: Graph,
  path: string,
  options: Pick<CompileOptions, "loss" | "output" | "layers" | "reduction">,
): Differentiable {
  const batch = batchSymbol(model, path);
  const graph = withBatch(model, batch);
  const b = createBuilder(graph, batch);
  b.addModel(graph.nodes);
  const wanted = options.output ?? graph.outputs[0]?.name ?? "";
  if (!graph.outputs.some((output) => output.name === wanted)) {
    throw new Error(`output: expected one of ${graph.outputs.map((o) => o.name).join(", ")}, got ${wanted}`);
  }
  const output = b.value(wanted);
  const port = targetOf(options.loss, output);
  const target = port && targetInput(b, options.loss, port);
  const { loss, cotangent } = lossOf(
    b,
    options.loss,
    output,
    target && b.value(target.name),
    options.reduction ?? "mean",
  );

  const onTheWay = ancestors(b.nodes, [wanted]);
  const candidates = candidatesOf(graph.initializers, graph.nodes).filter(({ name }) => onTheWay.has(name));
  const chosen = options.layers
    ? chooseParameters(candidates, options.layers)
    : candidates.filter(({ trained }) => trained);
  const gradients = backward(b, new Map([[wanted, cotangent]]), new Set(chosen.map(({ name }) => name)));
  const reached = chosen.filter(({ name }) => gradients.has(name));
  if (reached.length === 0) {
    throw new Error(
      `${path}: expected a floating-point parameter that reaches output ${wanted}, got none; integer and frozen parameters have no gradient`,
    );
  }
  return { b, graph, loss, target, gradients, layers: groupLayers(reached) };
}

/** The symbol of the number of examples: the first axis of the first input that has one. */
export function batchSymbol(graph: Graph, path: string): string {
  const [first] = graph.inputs.filter((input) => input.shape.length > 0);
  const dim = first?.shape[0];
  if (!first || dim === undefined) throw new Error(`${path}: expected an input with a batch axis, got none`);
  if (typeof dim === "string") return dim;
  throw new Error(
    `${path}: input ${first.name}: expected its first axis, the batch, to be dynamic, got ${dim}; export with dynamic_shapes={"${first.name}": {0: "batch"}}`,
  );
}

/** Exporters may name the batch axis differently at each input: all first axes that are open take the one name. */
export function withBatch(graph: Graph, batch: string): Graph {
  const inputs = graph.inputs.map((input) => {
    const [first] = input.shape;
    if (input.shape.includes(batch) || typeof first !== "string") return input;
    return { ...input, shape: [batch, ...input.shape.slice(1)] };
  });
  return { ...graph, inputs };
}

/** The value under a name of its own. */
export function named(b: Builder, value: Value, name: string): Value {
  if (value.name === name) return value;
  if (b.inputs.some((input) => input.name === name) || b.nodes.some((node) => node.outputs.includes(name))) {
    throw new Error(
      `value ${name}: expected the model not to use this name, got one of its values; rename it in the export`,
    );
  }
  const [output] = b.append({
    name,
    op: "Identity",
    domain: "",
    inputs: [value.name],
    outputs: [name],
    attributes: {},
  });
  return output ?? value;
}

/** What the outputs need, and nothing else. */
export function pruned(b: Builder, graph: Graph, outputs: readonly Value[]): Graph {
  const needed = ancestors(
    b.nodes,
    outputs.map((output) => output.name),
  );
  const nodes = b.nodes.filter((node) => node.outputs.some((name) => needed.has(name)));
  return {
    ...graph,
    inputs: b.inputs,
    outputs: [...new Set(outputs)].map(({ name, type, shape }) => ({ name, type, shape })),
    initializers: new Map([...b.initializers].filter(([name]) => needed.has(name))),
    nodes,
  };
}
