/** Which parameters are differentiated, and how they group into layers: the blocks of the Hessian. */
import type { onnx } from "onnx-proto";
import { type Layer, type Parameter, sizeOf } from "../../src/core/mask.ts";
import { isFloat, type Node } from "../onnx/graph.ts";
import { extents } from "../onnx/tensor.ts";

/** Buffers that are never trained, and names that exporters make up for constants and for folded weights. */
const BUFFER = /inv_freq|running_(mean|var)|num_batches_tracked|position_ids/;
const MADE_UP =
  /^(val|_?lifted|const|scalar|clone|_to_copy|arange|full|ones|zeros|tensor|onnx::|#)[^.]*$|^\/|^constant\.\d+$|^\d+$/;
const PRODUCTS = new Set(["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"]);
/** Their weights and bias come in exporters' own order of gates, and so under names that they make up. */
const RECURRENT = new Set(["LSTM", "GRU", "RNN"]);

/** A candidate for differentiation. */
export interface Candidate extends Parameter {
  /** Its module: what stands before the last dot of its name; of a nameless weight, that of the bias added to its product. */
  module: string;
  /** Whether it looks trained: a constant of the code does not. */
  trained: boolean;
  /** Operators that use it. */
  operators: string[];
}

/** The floating-point initialisers that nodes use. */
export function candidatesOf(
  initializers: ReadonlyMap<string, onnx.ITensorProto>,
  nodes: readonly Node[],
): Candidate[] {
  const users = new Map<string, Node[]>();
  for (const node of nodes) for (const name of node.inputs) users.set(name, [...(users.get(name) ?? []), node]);
  const statistics = new Set(nodes.flatMap((node) => (node.op === "BatchNormalization" ? node.inputs.slice(3) : [])));
  return [...initializers].flatMap(([name, tensor]) => {
    const uses = users.get(name);
    if (!isFloat(tensor.dataType ?? 0) || !uses) return [];
    const shape = extents(tensor);
    const weight = shape.length > 1 && shape.every((extent) => extent > 1 || shape.length > 2);
    const product = uses.find((node) => PRODUCTS.has(node.op) && node.inputs.indexOf(name) < 2);
    const named = !MADE_UP.test(name) && (name.includes(".") || sizeOf({ name, shape }) > 1);
    const recurrent = uses.some((node) => RECURRENT.has(node.op) && [1, 2, 3].includes(node.inputs.indexOf(name)));
    const shaped = recurrent || (weight && product !== undefined);
    const trained = !statistics.has(name) && !BUFFER.test(name) && (named || shaped);
    const bias = product && MADE_UP.test(name) ? biasAfter(product, users, initializers) : null;
    return [{ name, shape, trained, module: moduleOf(bias ?? name), operators: uses.map((node) => node.op) }];
  });
}

/** The named bias of a product: its own, or what is added to it at once. */
function biasAfter(
  product: Node,
  users: ReadonlyMap<string, Node[]>,
  initializers: ReadonlyMap<string, onnx.ITensorProto>,
): string | null {
  const [next] = users.get(product.outputs[0] ?? "") ?? [];
  const beside = [...product.inputs.slice(2), ...(next?.op === "Add" ? next.inputs : [])];
  return beside.find((name) => initializers.has(name) && name.includes(".")) ?? null;
}

/** The module that a parameter belongs to: what stands before the last dot. */
export const moduleOf = (parameter: string): string =>
  parameter.includes(".") ? parameter.slice(0, parameter.lastIndexOf(".")) : parameter;

/** Parameters as layers, in the order in which each module first appears. */
export function groupLayers(parameters: readonly Candidate[]): Layer[] {
  const layers = new Map<string, Layer>();
  for (const { name, shape, module } of parameters) {
    const layer = layers.get(module) ?? { name: module, parameters: [], d: 0 };
    layer.parameters.push({ name, shape });
    layer.d += sizeOf({ name, shape });
    layers.set(module, layer);
  }
  return [...layers.values()];
}

/**
 * The parameters that the patterns choose, less those of patterns that begin with "!". A pattern is the whole name of a parameter
 * or module; or `kind:Conv`, an operator that uses it; or `size>=4096`, a least number of entries; or else a part of a
 * parameter's name, in which `*` stands for anything. Exclusions alone choose from what looks trained.
 * Throws if a pattern matches nothing, with the nearest names.
 */
export function chooseParameters(candidates: readonly Candidate[], patterns: readonly string[]): Candidate[] {
  const [excluded, included] = [patterns.filter((p) => p.startsWith("!")), patterns.filter((p) => !p.startsWith("!"))];
  const trained = candidates.filter((candidate) => candidate.trained);
  const kept = new Set(included.length === 0 ? trained : included.flatMap((pattern) => matching(pattern, candidates)));
  for (const candidate of excluded.flatMap((pattern) => matching(pattern.slice(1), candidates))) kept.delete(candidate);
  const chosen = candidates.filter((candidate) => kept.has(candidate));
  if (chosen.length > 0) return chosen;
  throw new Error(`layers: expected some parameters to be left, got none from ${patterns.join(" ")}; exclude fewer`);
}

function matching(pattern: string, candidates: readonly Candidate[]): Candidate[] {
  const exact = candidates.filter(({ name }) => name === pattern);
  if (exact.length > 0) return exact;
  const module = candidates.filter((candidate) => candidate.module === pattern);
  if (module.length > 0) return module;
  const kind = /^kind:(.+)$/.exec(pattern)?.[1];
  const size = /^size>=(\d+)$/.exec(pattern)?.[1];
  const literal = (part: string) => part.replace(/[.\\^$+?()[\]{}|]/g, "\\$&");
  const expression = new RegExp(pattern.split("*").map(literal).join(".*"));
  const fits = (candidate: Candidate) => {
    if (kind) return candidate.operators.some((operator) => operator.toLowerCase() === kind.toLowerCase());
    return size ? sizeOf(candidate) >= Number(size) : expression.test(`${candidate.module} ${candidate.name}`);
  };
  const found = candidates.filter((candidate) => candidate.trained && fits(candidate));
  if (found.length > 0) return found;
  const names = candidates.filter(({ trained }) => trained).map(({ name }) => name);
  throw new Error(
    `layers: expected pattern ${pattern} to match a parameter, got none; the nearest names are ${nearestNames(pattern, names).join(", ")}`,
  );
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
