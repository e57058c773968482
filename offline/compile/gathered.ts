/** What is kept of the gradients, as nodes of the graph: gathered entries, entries in other directions, and their signed sums. */
import { keptParts } from "../../src/core/compress.ts";
import type { Directions, Layer, MaskBlock } from "../../src/core/mask.ts";
import { held, type PerExample } from "../autodiff/per-example.ts";
import { turned } from "../autodiff/turned.ts";
import type { Builder } from "../onnx/builder.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { tensorOf } from "../onnx/tensor.ts";

/**
 * The kept coordinates of every layer, one block after another: [B, R]. Each block is turned by itself: the
 * runtime takes the last added first, so each layer's entries are gathered as soon as its cotangent is there, and free it;
 * a turn after the joining makes the runtime's optimiser move some blocks behind all others.
 */
export function gathered(
  b: Builder,
  layers: readonly Layer[],
  mask: readonly MaskBlock[],
  gradients: ReadonlyMap<string, PerExample>,
  plan: "cheapest" | "whole",
): Value {
  const rows = layers.flatMap((layer, index) => {
    const block = mask[index];
    if (!block) return [];
    const parts = keptParts(layer, block).flatMap(({ parameter, directions, positions }) => {
      const gradient = gradients.get(parameter.name);
      if (!gradient || positions.length === 0) return [];
      b.within(`gradient of ${parameter.name}`);
      const entries = directions
        ? entriesIn(b, parameter.name, gradient, directions, positions)
        : entriesOf(b, parameter.shape, gradient, Array.from(positions), plan);
      const block = b.cast(entries, ELEMENT.float32);
      b.within("");
      return [block];
    });
    b.within(`gradient of ${layer.name}`);
    const blocks = (block.folded ? [sums(b, parts, block.folded, block.r)] : parts).map((rows) =>
      b.transpose(rows, [1, 0]),
    );
    b.within("");
    return blocks;
  });
  return b.concat(rows, 1);
}

/** [kept, B]. */
function entriesOf(
  b: Builder,
  shape: number[],
  gradient: PerExample,
  positions: readonly number[],
  plan: "cheapest" | "whole",
): Value {
  const formed =
    plan === "whole" && gradient.plan(positions).kind !== "lookup" && gradient.plan(positions).kind !== "sum";
  return formed ? held(b, gradient.whole, shape).at(positions) : gradient.at(positions);
}

/** [r, B]: the kept rows added with their signs into r places, equally many into each. */
function sums(b: Builder, parts: readonly Value[], places: Int32Array, r: number): Value {
  const order = Array.from(places.keys());
  const placeOf = (rank: number) => ((places[rank] ?? 0) < 0 ? ~(places[rank] ?? 0) : (places[rank] ?? 0));
  const next = new Uint32Array(r);
  const depth = order.length / r;
  const ranks = new Array<number>(order.length).fill(0);
  for (const rank of order) {
    const place = placeOf(rank);
    ranks[(next[place] ?? 0) * r + place] = rank;
    next[place] = (next[place] ?? 0) + 1;
  }
  const signs = ranks.map((rank) => ((places[rank] ?? 0) < 0 ? -1 : 1));
  const signed = b.mul(b.gather(b.concat(parts, 0), ranks), b.constant(ELEMENT.float32, [ranks.length, 1], signs));
  return b.sum(b.reshape(signed, [depth, r, b.batch]), [0]);
}

/** The initialisers that hold a parameter's directions. */
export const directionsNames = (parameter: string) =>
  [`left directions of ${parameter}`, `right directions of ${parameter}`] as const;

/** [kept, B], of the gradient in other directions. */
function entriesIn(
  b: Builder,
  name: string,
  gradient: PerExample,
  { rows, columns, left, right }: Directions,
  positions: Uint32Array,
): Value {
  const [ofLeft, ofRight] = directionsNames(name);
  b.initializers.set(ofLeft, tensorOf(ELEMENT.float32, [rows, left.length / rows], left));
  b.initializers.set(ofRight, tensorOf(ELEMENT.float32, [columns, right.length / columns], right));
  const width = right.length / columns;
  const entries = Array.from(positions, (at) => Math.floor(at / columns) * width + (at % columns));
  return turned(b, gradient.sides ?? [], b.value(ofLeft), b.value(ofRight), entries);
}
