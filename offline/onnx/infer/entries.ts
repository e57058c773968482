/** Operators that act entry by entry, or along axes: elementwise functions, comparisons, reductions, normalisations. */
import { productOf } from "../dims.ts";
import { ELEMENT, integer } from "../graph.ts";
import { foldArithmetic, foldComparison } from "../known.ts";
import { axesOf, broadcast, forEach, type Infer, normalAxis, overBatch, present, required } from "./context.ts";

const same: Infer = (c) => [{ type: c.input(0).type, shape: c.input(0).shape }];
const elementwise: Infer = (c) => [
  {
    type: c.input(0).type,
    shape: broadcast(present(c).map((v) => v.shape)),
    known: foldArithmetic(c.node, present(c)),
  },
];
const comparison: Infer = (c) => [
  {
    type: ELEMENT.bool,
    shape: broadcast(present(c).map((v) => v.shape)),
    known: foldComparison(c.node, present(c)),
  },
];

const reduction: Infer = (c) => {
  const x = c.input(0);
  const named = required(c, "the axes", axesOf(c, 1, x.shape.length));
  const axes = named.length > 0 || integer(c.node, "noop_with_empty_axes", 0) ? named : x.shape.map((_, axis) => axis);
  const keep = integer(c.node, "keepdims", 1) === 1;
  const shape = x.shape.flatMap((dim, axis) => (axes.includes(axis) ? (keep ? [1] : []) : [dim]));
  const known = c.node.op === "ReduceProd" && x.known && shape.every((d) => d === 1) ? [productOf(x.known)] : null;
  return [{ type: x.type, shape, known, mixes: overBatch(x, axes) }];
};

const arg: Infer = (c) => {
  const x = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", 0), x.shape.length);
  const keep = integer(c.node, "keepdims", 1) === 1;
  return [
    {
      type: ELEMENT.int64,
      shape: x.shape.flatMap((dim, a) => (a === axis ? (keep ? [1] : []) : [dim])),
      mixes: overBatch(x, [axis]),
    },
  ];
};

/** Softmax, CumSum …: the shape stays, but entries along an axis are combined. */
const along =
  (fallback: number): Infer =>
  (c) => {
    const x = c.input(0);
    const named = c.node.op === "CumSum" ? Number(c.constant(1)?.[0] ?? 0) : integer(c.node, "axis", fallback);
    return [{ type: x.type, shape: x.shape, mixes: overBatch(x, [normalAxis(named, x.shape.length)]) }];
  };

const normalisation: Infer = (c) => {
  const x = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", -1), x.shape.length);
  const statistics = x.shape.map((dim, a) => (a < axis ? dim : 1));
  const mixes = x.batch !== null && x.batch.axis >= axis;
  return [
    { type: x.type, shape: x.shape, mixes },
    { type: ELEMENT.float32, shape: statistics, mixes },
    { type: ELEMENT.float32, shape: statistics, mixes },
  ];
};

const topK: Infer = (c) => {
  const x = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", -1), x.shape.length);
  const shape = x.shape.map((dim, a) => (a === axis ? (c.constant(1)?.[0] ?? c.unknown()) : dim));
  const mixes = overBatch(x, [axis]);
  return [
    { type: x.type, shape, mixes },
    { type: ELEMENT.int64, shape, mixes },
  ];
};

const batchNormalisation: Infer = (c) => [
  { ...c.input(0), known: null, mixes: integer(c.node, "training_mode", 0) === 1 },
];

export const ENTRIES: [string, Infer][] = [
  ...forEach(
    "Neg Abs Exp Log Sqrt Reciprocal Erf Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Sigmoid Relu LeakyRelu Elu " +
      "Selu Celu Gelu Softplus Softsign HardSigmoid HardSwish Mish Swish ThresholdedRelu Clip Floor Ceil Round Sign Identity Trilu " +
      "ScatterND ScatterElements InstanceNormalization GroupNormalization Shrink Reverse",
    same,
  ),
  ...forEach("Add Sub Mul Div Pow Min Max Sum Mean Mod PRelu And Or Xor BitwiseAnd BitwiseOr", elementwise),
  ...forEach("Equal Less LessOrEqual Greater GreaterOrEqual", comparison),
  ...forEach("Not IsNaN IsInf", (c) => [
    { type: ELEMENT.bool, shape: c.input(0).shape, known: foldComparison(c.node, present(c)) },
  ]),
  ...forEach(
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp ReduceLogSum",
    reduction,
  ),
  ...forEach("ArgMax ArgMin", arg),
  ...forEach("Softmax LogSoftmax Hardmax LpNormalization", along(-1)),
  ["CumSum", along(0)],
  ...forEach("LayerNormalization RMSNormalization", normalisation),
  ["BatchNormalization", batchNormalisation],
  ["TopK", topK],
  [
    "Where",
    (c) => [
      {
        type: c.input(1).type,
        shape: broadcast(present(c).map((v) => v.shape)),
        known: foldArithmetic(c.node, present(c)),
      },
    ],
  ],
  [
    "NonZero",
    (c) => [{ type: ELEMENT.int64, shape: [c.input(0).shape.length, c.unknown()], mixes: c.input(0).batch !== null }],
  ],
  ["EyeLike", same],
];
