/** Which parameters are differentiated, and how they group into layers: the blocks of the Hessian. */
import type { onnx } from "onnx-proto";
import { type Layer, type Parameter, sizeOf } from "../../src/core/mask.ts";
import { isFloat, type Node } from "../onnx/graph.ts";
import { extents } from "../onnx/tensor.ts";

/** Names that exporters give to constants of the code, and to buffers that are never trained. */
const CONSTANT =
  /^(val|_?lifted|const|scalar|clone|_to_copy|arange|full|ones|zeros|tensor|onnx::(?!MatMul|Conv|Gemm|LSTM|GRU))[^.]*$|inv_freq|running_(mean|var)|num_batches_tracked|position_ids/;

/** Floating-point initialisers that look trained: used by a node, more than one number or a module's, and no statistics. */
export function trainedParameters(
  initializers: ReadonlyMap<string, onnx.ITensorProto>,
  nodes: readonly Node[],
): Parameter[] {
  const used = new Set(nodes.flatMap((node) => node.inputs));
  const statistics = new Set(nodes.flatMap((node) => (node.op === "BatchNormalization" ? node.inputs.slice(3) : [])));
  return [...initializers].flatMap(([name, tensor]) => {
    const shape = extents(tensor);
    const trained =
      isFloat(tensor.dataType ?? 0) &&
      used.has(name) &&
      !statistics.has(name) &&
      !CONSTANT.test(name) &&
      (name.includes(".") || sizeOf({ name, shape }) > 1);
    return trained ? [{ name, shape }] : [];
  });
}

/** The module that a parameter belongs to: what stands before the last dot. */
export const moduleOf = (parameter: string): string =>
  parameter.includes(".") ? parameter.slice(0, parameter.lastIndexOf(".")) : parameter;

/** Parameters as layers, in the order in which each module first appears. */
export function groupLayers(parameters: readonly Parameter[]): Layer[] {
  const layers = new Map<string, Layer>();
  for (const parameter of parameters) {
    const name = moduleOf(parameter.name);
    const layer = layers.get(name) ?? { name, parameters: [], d: 0 };
    layer.parameters.push(parameter);
    layer.d += sizeOf(parameter);
    layers.set(name, layer);
  }
  return [...layers.values()];
}

/**
 * The parameters whose names contain one of the patterns (`*` stands for anything) and none of those that begin with "!".
 * Throws if a pattern matches nothing, with the nearest names.
 */
export function chooseParameters(parameters: readonly Parameter[], patterns: readonly string[]): Parameter[] {
  const [excluded, included] = [patterns.filter((p) => p.startsWith("!")), patterns.filter((p) => !p.startsWith("!"))];
  const matching = (pattern: string) => {
    const expression = new RegExp(
      pattern
        .split("*")
        .map((part) => part.replace(/[.\\^$+?()[\]{}|]/g, "\\$&"))
        .join(".*"),
    );
    const found = parameters.filter(({ name }) => expression.test(name));
    if (found.length > 0) return found.map(({ name }) => name);
    const nearest = nearestNames(
      pattern,
      parameters.map(({ name }) => name),
    ).join(", ");
    throw new Error(
      `layers: expected pattern ${pattern} to match a parameter, got none; the nearest names are ${nearest}`,
    );
  };
  const kept = new Set(included.length === 0 ? parameters.map(({ name }) => name) : included.flatMap(matching));
  for (const name of excluded.flatMap((pattern) => matching(pattern.slice(1)))) kept.delete(name);
  const chosen = parameters.filter(({ name }) => kept.has(name));
  if (chosen.length === 0)
    throw new Error(`layers: expected some parameters to be left, got none from ${patterns.join(" ")}; exclude fewer`);
  return chosen;
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substituted));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

export function nearestNames(wanted: string, names: readonly string[]): string[] {
  const plain = wanted.replaceAll("*", "");
  const score = (name: string) =>
    Math.min(distance(plain, name), ...name.split(".").map((part) => distance(plain, part)));
  return [...names].sort((a, b) => score(a) - score(b)).slice(0, 3);
}
