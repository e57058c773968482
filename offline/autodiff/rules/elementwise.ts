/**
 * Gradients of operators that act entry by entry. A gradient has the shape of the cotangent `d`, or of a broadcast with it: the
 * walk sums it down to its operand's shape, so no rule here mentions broadcasting.
 */
import { integer, real, text, type Value, where } from "../../onnx/graph.ts";
import type { Rule, RuleContext } from "../rule.ts";

/** From the derivative of a function of one variable, in terms of x and y. */
const unary =
  (derivative: (c: RuleContext, x: Value, y: Value) => Value): Rule =>
  (c) => [() => c.b.mul(c.d, derivative(c, c.x(0), c.y[0] ?? c.x(0)))];

/** d where the condition holds, else 0. */
const masked = (c: RuleContext, condition: Value): Value => c.b.where(condition, c.d, c.b.scalar(0, c.d));

const pointwise = (c: RuleContext, op: string, ...operands: Value[]): Value => c.b.op(op, operands);

/** 1 − a². */
const oneMinusSquare = (c: RuleContext, a: Value): Value => c.b.sub(c.b.scalar(1, a), c.b.mul(a, a));
/** √(a² + c). */
const rootOfSquarePlus = (c: RuleContext, a: Value, by: number): Value =>
  pointwise(c, "Sqrt", c.b.shifted(c.b.mul(a, a), by));

const SQRT_2 = Math.SQRT2;
const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI);

/** Gelu′: Φ(x) + x·φ(x) exactly; with the tanh approximation, ½(1 + t) + ½x(1 − t²)·u′, u = √(2/π)(x + 0.044715x³). */
const gelu = unary((c, x) => {
  const { b } = c;
  if (text(c.node, "approximate", "none") === "tanh") {
    const k = Math.sqrt(2 / Math.PI);
    const square = b.mul(x, x);
    const t = pointwise(c, "Tanh", b.mul(b.scaled(x, k), b.shifted(b.scaled(square, 0.044715), 1)));
    const slope = b.shifted(b.scaled(square, 3 * 0.044715), 1);
    const tail = b.mul(b.mul(b.scaled(x, 0.5 * k), oneMinusSquare(c, t)), slope);
    return b.add(b.shifted(b.scaled(t, 0.5), 0.5), tail);
  }
  const cumulative = b.shifted(b.scaled(pointwise(c, "Erf", b.scaled(x, 1 / SQRT_2)), 0.5), 0.5);
  const density = b.scaled(pointwise(c, "Exp", b.scaled(b.mul(x, x), -0.5)), TWO_OVER_SQRT_PI / (2 * SQRT_2));
  return b.add(cumulative, b.mul(x, density));
});

/** Min and Max: as in PyTorch, operands that tie share the gradient equally. */
const extreme: Rule = (c) => {
  const { b } = c;
  const [y] = c.y;
  if (!y) return [];
  const hits = c.node.inputs.map((_, index) => b.cast(pointwise(c, "Equal", c.x(index), y), c.d.type));
  const count = hits.reduce(b.add);
  return hits.map((hit) => () => b.div(b.mul(c.d, hit), count));
};

/** xᵖ: p·xᵖ⁻¹ for the base (small whole exponents by multiplication, which is exact for negative x); xᵖ·ln x for the exponent. */
const power: Rule = (c) => [
  () => {
    const { b } = c;
    const exponent = c.constant(1);
    const p = exponent?.length === 1 ? exponent[0] : undefined;
    if (p === undefined) {
      const less = b.shifted(c.x(1), -1);
      return b.mul(b.mul(c.d, c.x(1)), pointwise(c, "Pow", c.x(0), less));
    }
    if (Number.isInteger(p) && p >= 1 && p <= 4) {
      const factors = Array.from({ length: p - 1 }, () => c.x(0));
      return factors.reduce(b.mul, b.scaled(c.d, p));
    }
    return b.mul(b.scaled(c.d, p), pointwise(c, "Pow", c.x(0), b.scalar(p - 1, c.x(0))));
  },
  () => c.b.mul(c.d, c.b.mul(c.y[0] ?? c.d, pointwise(c, "Log", c.x(0)))),
];

const clip: Rule = (c) => [
  () => {
    const { b } = c;
    const bounds: Value[] = [];
    const [low, high] = [c.optional(1), c.optional(2)];
    if (low) bounds.push(pointwise(c, "GreaterOrEqual", c.x(0), low));
    if (high) bounds.push(pointwise(c, "LessOrEqual", c.x(0), high));
    return bounds.length === 0
      ? c.d
      : masked(
          c,
          bounds.reduce((p, q) => b.op("And", [p, q])),
        );
  },
  null,
  null,
];

const greater = (c: RuleContext, x: Value, than: number): Value => pointwise(c, "Greater", x, c.b.scalar(than, x));
const less = (c: RuleContext, x: Value, than: number): Value => pointwise(c, "Less", x, c.b.scalar(than, x));

/** The gradient is d·slope where x ≤ 0, d elsewhere. */
const piecewise =
  (slope: (c: RuleContext) => Value): Rule =>
  (c) => [() => c.b.where(greater(c, c.x(0), 0), c.d, c.b.mul(c.d, slope(c)))];

const swish = (c: RuleContext, x: Value, alpha: number): Value => {
  const { b } = c;
  const s = pointwise(c, "Sigmoid", b.scaled(x, alpha));
  // s + αx·s(1 − s)
  return b.add(s, b.mul(b.scaled(x, alpha), b.mul(s, b.sub(b.scalar(1, s), s))));
};

const nothing: Rule = (c) => c.node.inputs.map(() => null);

export const ELEMENTWISE: Record<string, Rule> = {
  Add: (c) => [() => c.d, () => c.d],
  Sub: (c) => [() => c.d, () => c.b.neg(c.d)],
  Mul: (c) => [() => c.b.mul(c.d, c.x(1)), () => c.b.mul(c.d, c.x(0))],
  Div: (c) => [
    () => c.b.div(c.d, c.x(1)),
    // −d·y / b
    () => c.b.neg(c.b.div(c.b.mul(c.d, c.y[0] ?? c.d), c.x(1))),
  ],
  Sum: (c) => c.node.inputs.map(() => () => c.d),
  Mean: (c) => c.node.inputs.map(() => () => c.b.scaled(c.d, 1 / c.node.inputs.length)),
  Pow: power,
  Min: extreme,
  Max: extreme,
  Where: (c) => [null, () => masked(c, c.x(0)), () => c.b.where(c.x(0), c.b.scalar(0, c.d), c.d)],
  Neg: (c) => [() => c.b.neg(c.d)],
  Identity: (c) => [() => c.d],
  Cast: (c) => [() => c.b.cast(c.d, c.x(0).type)],
  CastLike: (c) => [() => c.b.cast(c.d, c.x(0).type), null],
  Abs: unary((c, x) => pointwise(c, "Sign", x)),
  Exp: unary((_c, _x, y) => y),
  Log: (c) => [() => c.b.div(c.d, c.x(0))],
  Sqrt: (c) => [() => c.b.div(c.b.scaled(c.d, 0.5), c.y[0] ?? c.d)],
  Reciprocal: unary((c, _x, y) => c.b.neg(c.b.mul(y, y))),
  // 2/√π · exp(−x²)
  Erf: unary((c, x) => c.b.scaled(pointwise(c, "Exp", c.b.neg(c.b.mul(x, x))), TWO_OVER_SQRT_PI)),
  Sin: unary((c, x) => pointwise(c, "Cos", x)),
  Cos: unary((c, x) => c.b.neg(pointwise(c, "Sin", x))),
  Tan: unary((c, _x, y) => c.b.shifted(c.b.mul(y, y), 1)),
  Asin: (c) => [() => c.b.div(c.d, pointwise(c, "Sqrt", oneMinusSquare(c, c.x(0))))],
  Acos: (c) => [() => c.b.neg(c.b.div(c.d, pointwise(c, "Sqrt", oneMinusSquare(c, c.x(0)))))],
  Atan: (c) => [() => c.b.div(c.d, c.b.shifted(c.b.mul(c.x(0), c.x(0)), 1))],
  Sinh: unary((c, x) => pointwise(c, "Cosh", x)),
  Cosh: unary((c, x) => pointwise(c, "Sinh", x)),
  Tanh: unary((c, _x, y) => oneMinusSquare(c, y)),
  Asinh: (c) => [() => c.b.div(c.d, rootOfSquarePlus(c, c.x(0), 1))],
  Acosh: (c) => [() => c.b.div(c.d, rootOfSquarePlus(c, c.x(0), -1))],
  Atanh: (c) => [() => c.b.div(c.d, oneMinusSquare(c, c.x(0)))],
  // y(1 − y)
  Sigmoid: unary((c, _x, y) => c.b.sub(y, c.b.mul(y, y))),
  Relu: (c) => [() => masked(c, greater(c, c.y[0] ?? c.d, 0))],
  LeakyRelu: piecewise((c) => c.b.scalar(real(c.node, "alpha", 0.01), c.d)),
  // α·eˣ = y + α
  Elu: piecewise((c) => c.b.shifted(c.y[0] ?? c.d, real(c.node, "alpha", 1))),
  Celu: piecewise((c) => c.b.shifted(c.b.scaled(c.y[0] ?? c.d, 1 / real(c.node, "alpha", 1)), 1)),
  Selu: (c) => {
    const [alpha, gamma] = [real(c.node, "alpha", 1.6732632423543772), real(c.node, "gamma", 1.0507009873554805)];
    const below = () => c.b.mul(c.d, c.b.shifted(c.y[0] ?? c.d, alpha * gamma));
    return [() => c.b.where(greater(c, c.x(0), 0), c.b.scaled(c.d, gamma), below())];
  },
  PRelu: (c) => [
    () => c.b.where(greater(c, c.x(0), 0), c.d, c.b.mul(c.d, c.x(1))),
    () => c.b.mul(c.d, pointwise(c, "Min", c.x(0), c.b.scalar(0, c.d))),
  ],
  Gelu: gelu,
  Swish: unary((c, x) => swish(c, x, real(c.node, "alpha", 1))),
  Softplus: unary((c, x) => pointwise(c, "Sigmoid", x)),
  // 1 / (1 + |x|)²
  Softsign: unary((c, x) => {
    const r = pointwise(c, "Reciprocal", c.b.shifted(pointwise(c, "Abs", x), 1));
    return c.b.mul(r, r);
  }),
  // t + x·σ(x)(1 − t²), t = tanh(softplus(x))
  Mish: unary((c, x) => {
    const t = pointwise(c, "Tanh", pointwise(c, "Softplus", x));
    return c.b.add(t, c.b.mul(c.b.mul(x, pointwise(c, "Sigmoid", x)), oneMinusSquare(c, t)));
  }),
  HardSigmoid: (c) => {
    const inside = () => {
      const [y] = c.y;
      return y ? c.b.op("And", [greater(c, y, 0), less(c, y, 1)]) : c.d;
    };
    return [() => c.b.scaled(masked(c, inside()), real(c.node, "alpha", 0.2))];
  },
  // x·hardsigmoid(x), α = 1/6: (2x + 3)/6 inside (−3, 3), 1 above, 0 below
  HardSwish: (c) => [
    () => {
      const { b } = c;
      const x = c.x(0);
      const inside = b.mul(c.d, b.shifted(b.scaled(x, 1 / 3), 0.5));
      const outside = b.where(greater(c, x, 0), c.d, b.scalar(0, c.d));
      return b.where(less(c, pointwise(c, "Abs", x), 3), inside, outside);
    },
  ],
  ThresholdedRelu: (c) => [() => masked(c, greater(c, c.x(0), real(c.node, "alpha", 1)))],
  Clip: clip,
  Floor: nothing,
  Ceil: nothing,
  Round: nothing,
  Sign: nothing,
  Mod: (c) => {
    if (integer(c.node, "fmod", 0) !== 1)
      throw new Error(`${where(c.node)}: expected fmod=1 on floats, got 0; export again`);
    return [() => c.d, null];
  },
  Trilu: (c) => [() => c.b.op("Trilu", [c.d, c.optional(1)], { upper: integer(c.node, "upper", 1) }), null],
  // The walk sums over the axes that were expanded.
  Expand: (c) => [() => c.d, null],
};
