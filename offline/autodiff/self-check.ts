/**
 * A compiled graph checked on real examples before use: examples of a batch do not influence each other, and kept coordinates
 * agree with central differences of the loss.
 */

import onnxProto, { type onnx } from "onnx-proto";
import * as ort from "onnxruntime-node";
import { type KeptPart, keptParts } from "../../src/core/compress.ts";
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import type { CompiledGradient } from "../compile/compile.ts";
import { directionsNames } from "../compile/gathered.ts";
import { ELEMENT } from "../onnx/graph.ts";
import { tensorOf } from "../onnx/tensor.ts";

export interface SelfCheck {
  /** Largest relative difference of a layer's gradient between a batch and one example by itself. */
  alone: number;
  /** By layer, the relative difference between the gradient along itself and the loss's central difference. */
  differences: { layer: string; error: number }[];
  /** Layers whose gradient is too small to measure in float32, or whose weights are not float32. */
  skipped: string[];
}

type Feeds = Record<string, ort.Tensor>;

const ALONE = 1e-3;
const DIFFERENCE = 0.05;
/** Lengths of a step of the layer's weights. */
const STEPS = [0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
/** Of a float32 loss, its last two digits. */
const ROUNDING = 4e-7;

/**
 * Runs the checks on a few examples (inputs and target, examples first).
 * Throws, naming the layer, if one fails.
 */
export async function selfCheck(
  compiled: Pick<CompiledGradient, "graph" | "layers" | "mask" | "dimension">,
  feeds: Feeds,
): Promise<SelfCheck> {
  const session = await ort.InferenceSession.create(compiled.graph);
  const { gradient } = await run(session, feeds);
  const finite = gradient.findIndex((entry) => !Number.isFinite(entry));
  if (finite >= 0) {
    throw new Error(
      `self-check: layer ${layerAt(compiled.mask, finite % compiled.dimension)}: expected finite gradients, got ${gradient[finite]} for example ${Math.floor(finite / compiled.dimension)}; check the example and the model's output for it`,
    );
  }
  const count = gradient.length / compiled.dimension;
  let alone = 0;
  for (let row = 0; row < Math.min(count, 4); row++) {
    const single = await run(session, rowOf(feeds, row));
    for (const { layer, offset, r } of compiled.mask) {
      const start = row * compiled.dimension + offset;
      const together = gradient.subarray(start, start + r);
      const error = distance(single.gradient.subarray(offset, offset + r), together, norm(gradient) * 1e-3);
      alone = Math.max(alone, error);
      if (!(error <= ALONE)) {
        throw new Error(
          `self-check: layer ${layer}: expected example ${row} to have the same gradient alone and in a batch of ${count}, got a relative difference of ${error.toPrecision(2)}; the model combines examples, export it in eval mode`,
        );
      }
    }
  }
  await session.release();
  const first = rowOf(feeds, 0);
  const moving = await ort.InferenceSession.create(movable(compiled.graph, compiled.layers, compiled.mask));
  const differences: SelfCheck["differences"] = [];
  const skipped: string[] = [];
  for (const [index, layer] of compiled.layers.entries()) {
    const block = compiled.mask[index];
    if (!block) continue;
    const direction = gradient.subarray(block.offset, block.offset + block.r);
    const error = await differenceError(moving, compiled.layers, compiled.mask, index, direction, first);
    if (error === null) skipped.push(layer.name);
    else differences.push({ layer: layer.name, error });
    if (error !== null && !(error <= DIFFERENCE)) {
      throw new Error(
        `self-check: layer ${layer.name}: expected its gradient to agree with central differences of the loss to ${DIFFERENCE}, got a relative difference of ${error.toPrecision(2)}; please report the model's operators`,
      );
    }
  }
  await moving.release();
  return { alone, differences, skipped };
}

const layerAt = (mask: readonly MaskBlock[], column: number): string =>
  mask.findLast((block) => block.offset <= column)?.layer ?? "";

async function run(
  session: ort.InferenceSession,
  feeds: Feeds,
): Promise<{ loss: Float32Array; gradient: Float32Array }> {
  const { loss, gradient } = await session.run(feeds, ["loss", "gradient"]);
  return { loss: floats(loss), gradient: floats(gradient) };
}

function floats(tensor: ort.Tensor | undefined): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw new Error(`self-check: expected float32 from the graph, got ${tensor?.type}`);
}

/** One example of a batch. */
function rowOf(feeds: Feeds, row: number): Feeds {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, tensor]) => {
      const [, ...rest] = tensor.dims;
      const width = rest.reduce((a, b) => a * b, 1);
      const data = tensor.data.slice(row * width, (row + 1) * width);
      if (Array.isArray(data)) throw new Error(`self-check: input ${name}: expected numbers, got strings`);
      return [name, new ort.Tensor(tensor.type, data, [1, ...rest])];
    }),
  );
}

const norm = (entries: Float32Array): number => Math.sqrt(entries.reduce((sum, entry) => sum + entry * entry, 0));

/** ‖a − b‖ relative to ‖b‖, or to `floor` where that is larger. */
function distance(a: Float32Array, b: Float32Array, floor: number): number {
  return norm(a.map((entry, index) => entry - (b[index] ?? Number.NaN))) / (Math.max(norm(b), floor) || 1);
}

const moveOf = (parameter: string): string => `move of ${parameter}`;

/**
 * The graph with one more input for each parameter, [kept], which is added to its kept entries; where it is kept in directions, times
 * u·vᵀ of each.
 */
function movable(bytes: Uint8Array, layers: readonly Layer[], mask: readonly MaskBlock[]): Uint8Array {
  const model = onnxProto.onnx.ModelProto.decode(bytes);
  const graph = model.graph ?? {};
  const constants: onnx.ITensorProto[] = [];
  const added: onnx.INodeProto[] = [];
  const renamed = new Map<string, string>();
  for (const [index, layer] of layers.entries()) {
    const block = mask[index];
    if (!block) continue;
    for (const part of keptParts(layer, block)) {
      const { name } = part.parameter;
      const tensor = graph.initializer?.find((initializer) => initializer.name === name);
      if (part.positions.length === 0 || tensor?.dataType !== ELEMENT.float32) continue;
      const { nodes, tensors } = move(part);
      constants.push(...tensors);
      added.push(...nodes);
      renamed.set(name, `moved of ${name}`);
      const dim = [{ dimValue: part.positions.length }];
      graph.input?.push({ name: moveOf(name), type: { tensorType: { elemType: ELEMENT.float32, shape: { dim } } } });
    }
  }
  const nodes = (graph.node ?? []).map((node) => ({
    ...node,
    input: (node.input ?? []).map((name) => renamed.get(name) ?? name),
  }));
  const initializer = [...(graph.initializer ?? []), ...constants];
  const output = (graph.output ?? []).filter(({ name }) => name === "loss");
  return onnxProto.onnx.ModelProto.encode({
    ...model,
    graph: { ...graph, node: [...added, ...nodes], initializer, output },
  }).finish();
}

/** The nodes that add the move's entries to a parameter. */
function move({ parameter: { name, shape }, directions, positions }: KeptPart): {
  nodes: onnx.INodeProto[];
  tensors: onnx.ITensorProto[];
} {
  const own = (what: string) => `${what} of ${name}`;
  const integers = (what: string, entries: number[]) => ({
    ...tensorOf(ELEMENT.int64, [entries.length], entries),
    name: own(what),
  });
  const node = (opType: string, input: string[], output: string, attribute: onnx.IAttributeProto[] = []) => ({
    opType,
    input,
    output: [own(output)],
    attribute,
  });
  const { INT, INTS, STRING } = onnxProto.onnx.AttributeProto.AttributeType;
  const added = { name: "reduction", type: STRING, s: new TextEncoder().encode("add") };
  if (!directions) {
    return {
      tensors: [integers("line", [-1]), integers("shape", shape), integers("kept", [...positions])],
      nodes: [
        node("Reshape", [name, own("line")], "flat"),
        node("ScatterElements", [own("flat"), own("kept"), moveOf(name)], "moved flat", [added]),
        node("Reshape", [own("moved flat"), own("shape")], "moved"),
      ],
    };
  }
  const [k, l] = [directions.left.length / directions.rows, directions.right.length / directions.columns];
  const entries = Array.from(positions, (at) => Math.floor(at / directions.columns) * l + (at % directions.columns));
  const [left, right] = directionsNames(name);
  const axis = { name: "axis", type: INT, i: 0 };
  const perm = { name: "perm", type: INTS, ints: [1, 0] };
  const nothing = { ...tensorOf(ELEMENT.float32, [k * l], new Float32Array(k * l)), name: own("nothing") };
  return {
    tensors: [nothing, integers("shape", shape), integers("matrix", [k, l]), integers("kept", entries)],
    nodes: [
      node("ScatterElements", [own("nothing"), own("kept"), moveOf(name)], "entries", [axis]),
      node("Reshape", [own("entries"), own("matrix")], "turned"),
      node("MatMul", [left, own("turned")], "half"),
      node("Transpose", [right], "right", [perm]),
      node("MatMul", [own("half"), own("right")], "change"),
      node("Reshape", [own("change"), own("shape")], "shaped"),
      node("Add", [name, own("shaped")], "moved"),
    ],
  };
}

/**
 * |(loss(θ + εv) − loss(θ − εv)) / 2ε − ‖g‖| / ‖g‖ for v = g/‖g‖ over the layer's coordinates, the best over some ε: rounding
 * spoils small steps, bends of the loss large ones. Null if the layer cannot be moved, or its gradient is below rounding.
 */
async function differenceError(
  session: ort.InferenceSession,
  layers: readonly Layer[],
  mask: readonly MaskBlock[],
  index: number,
  direction: Float32Array,
  feeds: Feeds,
): Promise<number | null> {
  const slope = norm(direction);
  const names = new Set(session.inputNames);
  if (slope === 0 || !layers[index]?.parameters.some(({ name }) => names.has(moveOf(name)))) return null;
  const lossAt = async (step: number): Promise<number> => {
    const moves = layers.flatMap((layer, other) => {
      const block = mask[other];
      if (!block) return [];
      const along = (rank: number): number => {
        const place = block.folded?.[rank] ?? rank;
        return place < 0 ? -(direction[~place] ?? 0) : (direction[place] ?? 0);
      };
      return keptParts(layer, block).flatMap(({ parameter, ranks }) => {
        if (!names.has(moveOf(parameter.name))) return [];
        const move = Float32Array.from(ranks, (rank) => (other === index ? (step * along(rank)) / slope : 0));
        return [[moveOf(parameter.name), new ort.Tensor("float32", move, [move.length])] as const];
      });
    });
    const { loss } = await session.run({ ...feeds, ...Object.fromEntries(moves) }, ["loss"]);
    return floats(loss)[0] ?? Number.NaN;
  };
  const here = Math.abs(await lossAt(0)) + 1;
  let best = Number.POSITIVE_INFINITY;
  let measurable = false;
  for (const step of STEPS) {
    measurable ||= ROUNDING * here < DIFFERENCE * slope * step;
    const error = Math.abs(((await lossAt(step)) - (await lossAt(-step))) / (2 * step) - slope) / slope;
    best = Math.min(best, error);
    if (best < DIFFERENCE / 5) break;
  }
  return measurable ? best : null;
}
