/** Gradients of operators that pick and place entries by index. */
import { minus, productOf } from "../../onnx/dims.ts";
import { integer, text, type Value, where } from "../../onnx/graph.ts";
import { normalAxis } from "../../onnx/infer/context.ts";
import type { Rule, RuleContext } from "../rule.ts";

const zerosLike = (c: RuleContext, v: Value): Value => c.b.filled(0, v.shape, v);

/** One fixed position: zeros around it. Others: each picked entry's cotangent is added where it came from. */
const gather: Rule = (c) => [
  () => {
    const { b } = c;
    const [x, indices] = [c.x(0), c.x(1)];
    const axis = normalAxis(integer(c.node, "axis", 0), x.shape.length);
    const extent = x.shape[axis] ?? 1;
    const fixed = c.constant(1);
    const pickedShape = [...x.shape.slice(0, axis), productOf(indices.shape), ...x.shape.slice(axis + 1)];
    const d = b.reshape(c.d, pickedShape);
    if (fixed?.length === 1 && fixed[0] !== undefined && typeof extent === "number") {
      const at = fixed[0] < 0 ? fixed[0] + extent : fixed[0];
      return b.pad(d, [{ axis, before: at, after: extent - 1 - at }]);
    }
    if (fixed?.length === 1 && fixed[0] === 0) {
      return b.pad(d, [{ axis, before: 0, after: minus(extent, 1) }]);
    }
    const line = x.shape.map((_, a) => (a === axis ? productOf(indices.shape) : 1));
    const spread = b.op("Expand", [b.reshape(indices, line), b.shape(pickedShape)]);
    return b.op("ScatterElements", [zerosLike(c, x), spread, d], { axis, reduction: "add" });
  },
  null,
];

const gatherElements: Rule = (c) => [
  () =>
    c.b.op("ScatterElements", [zerosLike(c, c.x(0)), c.x(1), c.d], {
      axis: integer(c.node, "axis", 0),
      reduction: "add",
    }),
  null,
];

const gatherND: Rule = (c) => [
  () => {
    const shared = integer(c.node, "batch_dims", 0);
    if (shared > 1)
      throw new Error(`${where(c.node)}: expected batch_dims of 0 or 1, got ${shared}; index without batch_dims`);
    const indices = shared === 0 ? c.x(1) : withBatchIndex(c, c.x(1));
    return c.b.op("ScatterND", [zerosLike(c, c.x(0)), indices, c.d], { reduction: "add" });
  },
  null,
];

/** [B, …, k] indices as [B, …, k + 1], the example's number first. */
function withBatchIndex(c: RuleContext, indices: Value): Value {
  const { b } = c;
  const count = b.reshape(b.extent(indices.shape[0] ?? 1), []);
  const numbers = b.op("Range", [b.constant(7, [], [0]), count, b.constant(7, [], [1])]);
  const column = [...indices.shape.slice(0, -1), 1];
  const line = b.reshape(
    numbers,
    column.map((dim, axis) => (axis === 0 ? dim : 1)),
  );
  return b.concat([b.op("Expand", [line, b.shape(column)]), indices], indices.shape.length - 1);
}

function replacing(c: RuleContext): boolean {
  const reduction = text(c.node, "reduction", "none");
  if (reduction !== "none" && reduction !== "add") {
    throw new Error(`${where(c.node)}: expected reduction none or add, got ${reduction}; scatter by another operator`);
  }
  return reduction === "none";
}

const scatterND: Rule = (c) => [
  () => (replacing(c) ? c.b.op("ScatterND", [c.d, c.x(1), zerosLike(c, c.x(2))]) : c.d),
  null,
  () => c.b.op("GatherND", [c.d, c.x(1)]),
];

const scatterElements: Rule = (c) => {
  const axis = integer(c.node, "axis", 0);
  return [
    () => (replacing(c) ? c.b.op("ScatterElements", [c.d, c.x(1), zerosLike(c, c.x(2))], { axis }) : c.d),
    null,
    () => c.b.op("GatherElements", [c.d, c.x(1)], { axis }),
  ];
};

const topK: Rule = (c) => [
  () => {
    const [, indices] = c.y;
    if (!indices) throw new Error(`${where(c.node)}: expected indices as a second output, got none`);
    return c.b.op("ScatterElements", [zerosLike(c, c.x(0)), indices, c.d], { axis: integer(c.node, "axis", -1) });
  },
  null,
];

export const INDEXING: Record<string, Rule> = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  ScatterND: scatterND,
  ScatterElements: scatterElements,
  TopK: topK,
};
