/** What the compiler makes of a model: its layers, which of them it can differentiate and how, and what collecting will cost. */
import { type Parameter, sizeOf, uniformMask } from "../../src/core/mask.ts";
import { backward } from "../autodiff/backward.ts";
import { estimate, type PerExample, type Plan } from "../autodiff/per-example.ts";
import { turnedPlan } from "../autodiff/turned.ts";
import { ancestors } from "../autodiff/walk.ts";
import { directionCounts } from "../compress/eigenbasis.ts";
import { type Candidate, candidatesOf, chooseParameters, groupLayers } from "../compress/layers.ts";
import { type Builder, createBuilder } from "../onnx/builder.ts";
import { type Graph, integer, type Node } from "../onnx/graph.ts";
import { readModel } from "../onnx/model.ts";
import { batchSymbol, type CompileOptions, describe, type GraphInput, shares, withBatch } from "./compile.ts";

type Compressor = CompileOptions["compressor"];

export interface InspectedLayer {
  name: string;
  /** The operators that use its parameters. */
  operators: string[];
  parameters: Parameter[];
  /** Entries of its parameters. */
  d: number;
  /** Why it has no gradient; null if it has one. */
  uncovered: string | null;
  /** Whether it is differentiated by default: constants and statistics are not. */
  trained: boolean;
  /**
   * By parameter, what would choose its coordinates at the given r (all: none is left out; a parameter that is not known as a matrix is
   * not kept in its eigenbasis but by importance), how they would be computed, the estimated multiply-adds per example, and the dearer
   * plans.
   */
  plans: ({ parameter: string; kept: number; by: Compressor | "all" } & Plan)[];
}

export interface Inspection {
  inputs: GraphInput[];
  outputs: GraphInput[];
  /** Axes without a fixed extent, as `input.axis: name`. */
  dynamicAxes: string[];
  layers: InspectedLayer[];
  /** Of the trained parameters' entries, the share that has a gradient. */
  covered: number;
  /** Estimated multiply-adds per example: the forward pass, the walk back to activations, and the kept coordinates. */
  cost: { forward: number; backward: number; coordinates: number };
  /** Estimated time of collecting ÷ that of a forward pass. */
  relativeCost: number;
}

/** Throws if the model cannot be read or an operator of it is not understood at all. */
export async function inspectModel(
  path: string,
  options: { output?: string; layers?: readonly string[]; perLayer?: number; compressor?: Compressor } = {},
): Promise<Inspection> {
  const model = await readModel(path);
  const graph = withBatch(model, batchSymbol(model, path));
  const output = options.output ?? graph.outputs[0]?.name ?? "";
  const candidates = candidatesOf(graph.initializers, graph.nodes);
  const chosen = options.layers ? chooseParameters(candidates, options.layers) : candidates;
  const { gradients, reasons, b, forward } = coverage(graph, path, output, chosen);
  const { perLayer = 1024, compressor = "eigenbasis" } = options;
  const layers = inspectLayers(graph, chosen, gradients, reasons, perLayer, compressor);
  const trained = chosen.filter((candidate) => candidate.trained);
  const size = (list: readonly Parameter[]) => list.reduce((sum, parameter) => sum + sizeOf(parameter), 0);
  const cost = {
    forward: workOf(b, b.nodes.slice(0, forward)),
    backward: workOf(b, b.nodes.slice(forward)),
    coordinates: layers.reduce((sum, layer) => sum + layer.plans.reduce((inner, { cost }) => inner + cost, 0), 0),
  };
  return {
    inputs: graph.inputs.map(describe),
    outputs: graph.outputs.map((port) => describe({ ...port, shape: b.value(port.name).shape })),
    dynamicAxes: graph.inputs.flatMap(({ name, shape }) =>
      shape.flatMap((dim, axis) => (typeof dim === "string" ? [`${name}.${axis}: ${dim}`] : [])),
    ),
    layers,
    covered: size(trained.filter(({ name }) => gradients.has(name))) / (size(trained) || 1),
    cost,
    relativeCost: (cost.forward + cost.backward + cost.coordinates) / (cost.forward || 1),
  };
}

/** Differentiates with respect to all parameters at once, and layer by layer if that fails, to tell which one is at fault. */
function coverage(graph: Graph, path: string, output: string, chosen: readonly Candidate[]) {
  const fresh = () => {
    const b = createBuilder(graph, batchSymbol(graph, path));
    b.addModel(graph.nodes);
    return b;
  };
  const walk = (b: Builder, names: readonly string[]) => {
    const value = b.value(output);
    return backward(b, new Map([[output, b.filled(1, value.shape, value)]]), new Set(names));
  };
  const b = fresh();
  const forward = b.nodes.length;
  const reached = ancestors(b.nodes, [output]);
  const reasons = new Map<string, string>();
  for (const { name } of chosen) if (!reached.has(name)) reasons.set(name, `does not reach output ${output}`);
  const possible = chosen.filter(({ name }) => reached.has(name));
  const trained = possible.filter((candidate) => candidate.trained);
  try {
    const names = trained.map(({ name }) => name);
    return { b, forward, reasons, gradients: walk(b, names) };
  } catch {
    const gradients = new Map<string, PerExample>();
    for (const { name } of trained) {
      try {
        const own = fresh();
        for (const [found, gradient] of walk(own, [name])) gradients.set(found, gradient);
      } catch (error) {
        reasons.set(name, error instanceof Error ? error.message : String(error));
      }
    }
    return { b, forward, reasons, gradients };
  }
}

function inspectLayers(
  graph: Graph,
  chosen: readonly Candidate[],
  gradients: ReadonlyMap<string, PerExample>,
  reasons: ReadonlyMap<string, string>,
  perLayer: number,
  compressor: Compressor,
): InspectedLayer[] {
  const trained = new Map(chosen.map((candidate) => [candidate.name, candidate.trained]));
  const layers = groupLayers(chosen);
  const mask = uniformMask(layers, shares(layers, { perLayer }), "inspect");
  return layers.map((layer, index) => {
    const names = new Set(layer.parameters.map(({ name }) => name));
    const uses = graph.nodes.filter((node) => node.inputs.some((name) => names.has(name)));
    const reason = layer.parameters.map(({ name }) => reasons.get(name)).find((found) => found !== undefined);
    const isTrained = layer.parameters.some(({ name }) => trained.get(name));
    const idle = isTrained ? "no gradient reaches it" : "looks like a constant or a statistic, not a trained parameter";
    let start = 0;
    const plans = layer.parameters.flatMap((parameter): InspectedLayer["plans"] => {
      const from = start;
      start += sizeOf(parameter);
      const inside = Array.from(mask[index]?.kept ?? [])
        .filter((position) => position >= from && position < start)
        .map((position) => position - from);
      const gradient = gradients.get(parameter.name);
      if (!gradient || inside.length === 0) return [];
      const kept = { parameter: parameter.name, kept: inside.length };
      if (mask[index]?.r === layer.d) return [{ ...kept, by: "all", ...gradient.plan(inside) }];
      if (compressor !== "eigenbasis") return [{ ...kept, by: compressor, ...gradient.plan(inside) }];
      if (!gradient.sides) return [{ ...kept, by: "importance", ...gradient.plan(inside) }];
      // The kept entries are seldom spread over all directions that are looked at: about half of them, on each side.
      const counts = directionCounts(parameter.shape, inside.length).map((count) => Math.ceil(count / 2));
      const plan = turnedPlan(gradient.sides, [counts[0] ?? 1, counts[1] ?? 1], inside.length);
      return [{ ...kept, by: compressor, ...plan }];
    });
    return {
      name: layer.name,
      operators: [...new Set(uses.map((node) => node.op))],
      parameters: layer.parameters,
      d: layer.d,
      uncovered: layer.parameters.some(({ name }) => gradients.has(name)) ? null : (reason ?? idle),
      trained: isTrained,
      plans,
    };
  });
}

/** Estimated multiply-adds per example; an elementwise operator counts ten for each entry, for it moves memory. */
function workOf(b: Builder, nodes: readonly Node[]): number {
  const size = (name: string | undefined) => {
    const value = name ? b.value(name) : null;
    return value ? estimate(value.shape.map((dim) => (dim === b.batch ? 1 : dim))) : 0;
  };
  return nodes.reduce((work, node) => {
    const [first, second] = node.inputs;
    const out = size(node.outputs[0]);
    const inputs = first ? b.value(first).shape : [];
    switch (node.op) {
      case "MatMul":
        return work + out * estimate(inputs.slice(-1));
      case "Gemm":
        return work + out * estimate([inputs[integer(node, "transA", 0) ? 0 : 1] ?? 1]);
      case "Conv":
        return work + out * estimate(second ? b.value(second).shape.slice(1) : []);
      case "ConvTranspose":
        return work + size(first) * estimate(second ? b.value(second).shape.slice(1) : []);
      default:
        return work + 10 * (b.value(node.outputs[0] ?? "").batch ? out : 0);
    }
  }, 0);
}
