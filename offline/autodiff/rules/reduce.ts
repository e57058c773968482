/** Gradients of reductions, and of operators that combine entries along an axis. */
import { productOf } from "../../onnx/dims.ts";
import { integer, real, type Value } from "../../onnx/graph.ts";
import { axesOf, normalAxis } from "../../onnx/infer/context.ts";
import type { Rule, RuleContext } from "../rule.ts";

function reducedAxes(c: RuleContext): number[] {
  const rank = c.x(0).shape.length;
  const named = axesOf(c, 1, rank) ?? [];
  return named.length > 0 || integer(c.node, "noop_with_empty_axes", 0) ? named : c.x(0).shape.map((_, axis) => axis);
}

/** `value` (the result, or its cotangent) with the reduced axes back, of extent 1. */
function kept(c: RuleContext, value: Value): Value {
  const axes = reducedAxes(c);
  return c.b.reshape(
    value,
    c.x(0).shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim)),
  );
}

const spread = (c: RuleContext, value: Value): Value => c.b.op("Expand", [value, c.b.shape(c.x(0).shape)]);

/** d / count, count read while running where an extent is open. */
function divided(c: RuleContext, d: Value): Value {
  const count = productOf(reducedAxes(c).map((axis) => c.x(0).shape[axis] ?? 1));
  if (typeof count === "number") return c.b.scaled(d, 1 / count);
  return c.b.div(d, c.b.cast(c.b.extent(count), d.type));
}

/** As in PyTorch's amax: entries that tie share the gradient equally. */
const extreme: Rule = (c) => [
  () => {
    const { b } = c;
    const hits = b.cast(b.op("Equal", [c.x(0), kept(c, c.y[0] ?? c.d)]), c.d.type);
    return b.mul(hits, b.div(kept(c, c.d), b.sum(hits, reducedAxes(c), true)));
  },
  null,
];

const softmax: Rule = (c) => [
  () => {
    const { b } = c;
    const y = c.y[0] ?? c.d;
    const axis = normalAxis(integer(c.node, "axis", -1), y.shape.length);
    const weighted = b.mul(c.d, y);
    // y ⊙ (d − ⟨d, y⟩)
    return b.sub(weighted, b.mul(y, b.sum(weighted, [axis], true)));
  },
];

const logSoftmax: Rule = (c) => [
  () => {
    const { b } = c;
    const y = c.y[0] ?? c.d;
    const axis = normalAxis(integer(c.node, "axis", -1), y.shape.length);
    return b.sub(c.d, b.mul(b.op("Exp", [y]), b.sum(c.d, [axis], true)));
  },
];

/** The sum of d over the positions that an entry was added to: a cumulative sum the other way. */
const cumSum: Rule = (c) => [
  () =>
    c.b.op("CumSum", [c.d, c.x(1)], {
      exclusive: integer(c.node, "exclusive", 0),
      reverse: 1 - integer(c.node, "reverse", 0),
    }),
  null,
];

const lpNormalisation: Rule = (c) => [
  () => {
    const { b } = c;
    const axis = normalAxis(integer(c.node, "axis", -1), c.d.shape.length);
    const y = c.y[0] ?? c.d;
    const norm = b.op("ReduceL2", [c.x(0), b.ints([axis])], { keepdims: 1 });
    return b.div(b.sub(c.d, b.mul(y, b.sum(b.mul(c.d, y), [axis], true))), norm);
  },
];

export const REDUCE: Record<string, Rule> = {
  ReduceSum: (c) => [() => spread(c, kept(c, c.d)), null],
  ReduceMean: (c) => [() => spread(c, divided(c, kept(c, c.d))), null],
  ReduceMax: extreme,
  ReduceMin: extreme,
  // y / x, for x ≠ 0
  ReduceProd: (c) => [() => c.b.div(c.b.mul(kept(c, c.d), kept(c, c.y[0] ?? c.d)), c.x(0)), null],
  ReduceL1: (c) => [() => c.b.mul(kept(c, c.d), c.b.op("Sign", [c.x(0)])), null],
  // x / ‖x‖, and 0 at 0 as in PyTorch
  ReduceL2: (c) => [
    () => {
      const { b } = c;
      const norm = kept(c, c.y[0] ?? c.d);
      const zero = b.op("Equal", [norm, b.scalar(0, norm)]);
      return b.mul(c.x(0), b.where(zero, b.scalar(0, norm), b.div(kept(c, c.d), norm)));
    },
    null,
  ],
  ReduceSumSquare: (c) => [() => c.b.mul(c.b.scaled(kept(c, c.d), 2), c.x(0)), null],
  ReduceLogSumExp: (c) => [() => c.b.mul(kept(c, c.d), c.b.op("Exp", [c.b.sub(c.x(0), kept(c, c.y[0] ?? c.d))])), null],
  ReduceLogSum: (c) => [() => spread(c, c.b.div(kept(c, c.d), c.b.op("Exp", [kept(c, c.y[0] ?? c.d)]))), null],
  Softmax: softmax,
  LogSoftmax: logSoftmax,
  CumSum: cumSum,
  LpNormalization: lpNormalisation,
  LayerNormalization: (c) => layerNormalisation(c),
  RMSNormalization: (c) => rmsNormalisation(c),
};

/** Axes from the node's `axis` to the last. */
function normalisedAxes(c: RuleContext): number[] {
  const rank = c.x(0).shape.length;
  const first = normalAxis(integer(c.node, "axis", -1), rank);
  return Array.from({ length: rank - first }, (_, index) => first + index);
}

const mean = (c: RuleContext, x: Value, axes: number[]): Value =>
  c.b.op("ReduceMean", [x, c.b.ints(axes)], { keepdims: 1 });

/** x̂ and 1/σ of a LayerNormalization: x̂ = (x − mean)/σ, σ² = variance + ε. */
export function standardised(c: Pick<RuleContext, "b" | "node" | "x">): { normal: Value; inverse: Value } {
  const { b } = c;
  const x = c.x(0);
  const first = normalAxis(integer(c.node, "axis", -1), x.shape.length);
  const axes = b.ints(x.shape.flatMap((_, axis) => (axis < first ? [] : [axis])));
  const epsilon = real(c.node, "epsilon", 1e-5);
  const root = (square: Value) =>
    b.op("Reciprocal", [b.op("Sqrt", [b.shifted(b.op("ReduceMean", [square, axes], { keepdims: 1 }), epsilon)])]);
  if (c.node.op === "RMSNormalization") {
    const inverse = root(b.mul(x, x));
    return { normal: b.mul(x, inverse), inverse };
  }
  const centred = b.sub(x, b.op("ReduceMean", [x, axes], { keepdims: 1 }));
  const inverse = root(b.mul(centred, centred));
  return { normal: b.mul(centred, inverse), inverse };
}

/** With e = d ⊙ scale: (e − mean(e) − x̂·mean(e ⊙ x̂)) / σ. */
function layerNormalisation(c: RuleContext): ReturnType<Rule> {
  const { b } = c;
  const axes = normalisedAxes(c);
  return [
    () => {
      const { normal, inverse } = standardised(c);
      const e = b.mul(c.d, c.x(1));
      const along = b.mul(normal, mean(c, b.mul(e, normal), axes));
      return b.mul(b.sub(b.sub(e, mean(c, e, axes)), along), inverse);
    },
    () => b.mul(c.d, standardised(c).normal),
    () => c.d,
  ];
}

/** With e = d ⊙ scale: (e − x̂·mean(e ⊙ x̂)) / rms. */
function rmsNormalisation(c: RuleContext): ReturnType<Rule> {
  const { b } = c;
  return [
    () => {
      const { normal, inverse } = standardised(c);
      const e = b.mul(c.d, c.x(1));
      return b.mul(b.sub(e, b.mul(normal, mean(c, b.mul(e, normal), normalisedAxes(c)))), inverse);
    },
    () => b.mul(c.d, standardised(c).normal),
  ];
}
