/**
 * Through what is made of parameters alone: from the per-example gradient of a node's output to that of its input, entry by
 * entry. Moves (Transpose, Reshape, Slice …) follow each kept entry to where it went; scaling (a product with a constant, a
 * function of one variable) multiplies it.
 */
import { type Dim, minus, plus } from "../onnx/dims.ts";
import { ELEMENT, integer, type Node, type Value, where } from "../onnx/graph.ts";
import { normalAxis } from "../onnx/infer/context.ts";
import { permutation, sliceOf, splitSizes } from "../onnx/infer/moves.ts";
import { lookupOfWhole } from "./lookup.ts";
import { fixed, held, moved, numberOf, type PerExample } from "./per-example.ts";
import type { Rule, RuleContext } from "./rule.ts";
import { broadcasts } from "./rules.ts";
import { matrixExtents, type Sides } from "./sides.ts";
import { USES } from "./uses.ts";

const stridesOf = (shape: readonly number[]): number[] => shape.map((_, axis) => numberOf(shape.slice(axis + 1)));

/** Index along each axis of a flat position. */
const unravel = (position: number, shape: readonly number[]): number[] =>
  stridesOf(shape).map((stride, axis) => Math.floor(position / stride) % (shape[axis] ?? 1));

const ravel = (index: readonly number[], shape: readonly number[]): number =>
  stridesOf(shape).reduce((position, stride, axis) => position + stride * (index[axis] ?? 0), 0);

/**
 * The gradient of the input at `position` from that of the node's first output with one; null where it has none.
 * Throws if the operator is neither a move nor elementwise.
 */
export function carry(
  c: RuleContext,
  position: number,
  shape: Dim[],
  inner: PerExample,
  rule: Rule,
): PerExample | null {
  const gradient = entryByEntry(c, position, shape, inner, rule);
  const same = gradient && (SAME_MATRIX.has(c.node.op) || c.node.op === "Transpose");
  return same ? { ...gradient, sides: sidesBehind(c.node, inner, shape) } : gradient;
}

const SAME_MATRIX = new Set(["Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"]);

/** What only gets another shape stays the same matrix, if its rows stay; a transposed matrix has its sides exchanged. */
function sidesBehind(node: Node, { sides, shape: after }: PerExample, before: readonly Dim[]): Sides[] | null {
  if (!sides || ![...before, ...after].every((dim) => typeof dim === "number")) return null;
  const [from, to] = [matrixExtents(fixed(before)), matrixExtents(fixed(after))];
  if (SAME_MATRIX.has(node.op)) return from[0] === to[0] ? sides : null;
  if (before.length !== 2 || before.includes(1) || permutation(node, 2)[0] !== 1) return null;
  return sides.map(({ left, right, ...rest }) => ({ left: right, right: left, ...rest }));
}

function entryByEntry(
  c: RuleContext,
  position: number,
  shape: Dim[],
  inner: PerExample,
  rule: Rule,
): PerExample | null {
  const { b, node } = c;
  const whole = () => inner.whole();
  const before = () => fixed(shape);
  const after = () => fixed(inner.shape);
  switch (node.op) {
    case "Identity":
    case "Cast":
      return { ...inner, shape };
    case "Reshape":
    case "Flatten":
    case "Squeeze":
    case "Unsqueeze": {
      const back = () => b.reshape(whole(), [b.batch, ...shape]);
      return position === 0
        ? moved(
            b,
            inner,
            shape,
            (at) => [at],
            (at) => at,
            back,
          )
        : null;
    }
    case "Transpose": {
      const order = permutation(node, shape.length);
      const back = [0, ...order.map((_, axis) => order.indexOf(axis) + 1)];
      const target = (at: number) => {
        const index = unravel(at, before());
        return [
          ravel(
            order.map((axis) => index[axis] ?? 0),
            after(),
          ),
        ];
      };
      const source = (at: number) => {
        const index = unravel(at, after());
        return ravel(
          order.map((_, axis) => index[order.indexOf(axis)] ?? 0),
          before(),
        );
      };
      return moved(b, inner, shape, target, source, () => b.transpose(whole(), back));
    }
    case "Expand": {
      const lead = inner.shape.length - shape.length;
      const added = inner.shape.map((extent, axis) => axis < lead || (shape[axis - lead] === 1 && extent !== 1));
      const copies = () => after().map((extent, axis) => (added[axis] ? extent : 1));
      const back = () => {
        const axes = added.flatMap((copied, axis) => (copied ? [axis + 1] : []));
        return b.reshape(b.sum(whole(), axes, true), [b.batch, ...shape]);
      };
      if (position !== 0) return null;
      return moved(b, inner, shape, (at) => repeated(unravel(at, before()), copies(), lead, after()), null, back);
    }
    case "Slice":
      return position === 0 ? slice(c, shape, inner) : null;
    case "Split": {
      const axis = normalAxis(integer(node, "axis", 0), shape.length);
      const sizes = splitSizes(c, shape[axis] ?? 1);
      const part = c.ds.findIndex((d) => d !== null);
      return window(c, shape, inner, axis, Number(sizes.slice(0, part).reduce(plus, 0)));
    }
    case "Concat": {
      const axis = normalAxis(integer(node, "axis", 0), shape.length);
      const start = node.inputs
        .slice(0, position)
        .reduce<Dim>((sum, _, index) => plus(sum, c.x(index).shape[axis] ?? 0), 0);
      const target = (at: number) => {
        const index = unravel(at, before());
        index[axis] = (index[axis] ?? 0) + Number(start);
        return [ravel(index, after())];
      };
      const cut = () => b.slice(whole(), [{ axis: axis + 1, start, end: plus(start, shape[axis] ?? 0) }]);
      return moved(b, inner, shape, target, null, cut);
    }
    case "Gather":
      if (position !== 0) return null;
      return lookupOfWhole(b, before(), normalAxis(integer(node, "axis", 0), shape.length), inner, c.x(1));
    case "MatMul":
    case "Gemm": {
      const use = USES[node.op];
      const d = whole();
      return use ? use({ ...c, d, ds: [d] }, position, before()) : null;
    }
    default:
      return ALONG_AXES.test(node.op)
        ? alongAxes(c, position, shape, inner, rule)
        : scaled(c, position, shape, inner, rule);
  }
}

/** Operators that combine a parameter's entries along axes: weight normalisation has a norm, a mixture of layers a softmax. */
const ALONG_AXES = /^(Reduce\w+|Softmax|LogSoftmax|LpNormalization|CumSum)$/;

/** Entries of a parameter whose gradient may be made whole on the way, for each example. */
const LARGEST_WHOLE = 1 << 20;

/** By the operator's own rule, the parameter seen as an activation that is the same for every example: [B, …]. */
function alongAxes(c: RuleContext, position: number, shape: Dim[], inner: PerExample, rule: Rule): PerExample | null {
  const { b, node } = c;
  const [y] = c.y;
  if (position !== 0 || !y) return null;
  if (numberOf(fixed(shape)) > LARGEST_WHOLE) {
    throw new Error(
      `${where(node)}: expected a parameter of at most ${LARGEST_WHOLE} entries before ${node.op}, which needs its whole gradient, got [${shape}]; export the weight that it makes (torch.nn.utils.parametrize.remove_parametrizations), or leave it out with --layers '!NAME'`,
    );
  }
  const given = node.inputs[1] ? c.constant(1) : [];
  const all = shape.map((_, axis) => axis);
  const named = given?.length || integer(node, "noop_with_empty_axes", 0) ? (given ?? []) : all;
  const axes = named.map((axis) => normalAxis(axis, shape.length) + 1);
  const axis = normalAxis(integer(node, "axis", -1), shape.length) + 1;
  const forAll = (v: Value) => b.op("Expand", [b.reshape(v, [1, ...v.shape]), b.shape([b.batch, ...v.shape])]);
  const whole = (): Value => {
    const [x, d] = [forAll(c.x(0)), inner.whole()];
    const second = node.op === "CumSum" ? b.constant(ELEMENT.int64, [], axes) : b.ints(axes);
    const context: RuleContext = {
      ...c,
      node: { ...node, inputs: [x.name, second.name], attributes: { ...node.attributes, axis } },
      x: (index) => (index === 0 ? x : second),
      optional: (index) => (index === 0 ? x : second),
      constant: (index) => (index === 1 ? axes : null),
      y: [forAll(y)],
      d,
      ds: [d],
    };
    return b.reshape(rule(context)[0]?.() ?? d, [b.batch, ...shape]);
  };
  return held(b, whole, shape);
}

const sameShape = (a: readonly Dim[], b: readonly Dim[]) =>
  a.length === b.length && a.every((dim, axis) => dim === b[axis]);

function repeated(index: number[], copies: number[], lead: number, to: number[]): number[] {
  return copies
    .reduce<number[][]>(
      (all, count, axis) =>
        all.flatMap((chosen) =>
          Array.from({ length: count }, (_, copy) => [
            ...chosen,
            count > 1 ? copy : axis < lead ? 0 : (index[axis - lead] ?? 0),
          ]),
        ),
      [[]],
    )
    .map((chosen) => ravel(chosen, to));
}

/** The part of the input along `axis` from `start` on is the output. */
function window(c: RuleContext, shape: Dim[], inner: PerExample, axis: number, start: number): PerExample {
  const { b } = c;
  const extent = inner.shape[axis] ?? 1;
  const target = (at: number) => {
    const index = unravel(at, fixed(shape));
    const inside = (index[axis] ?? 0) - start;
    index[axis] = inside;
    return inside >= 0 && inside < Number(extent) ? [ravel(index, fixed(inner.shape))] : [];
  };
  const source = (at: number) => {
    const index = unravel(at, fixed(inner.shape));
    index[axis] = (index[axis] ?? 0) + start;
    return ravel(index, fixed(shape));
  };
  return moved(b, inner, shape, target, source, () => {
    const after = minus(minus(shape[axis] ?? 1, start), extent);
    return b.pad(inner.whole(), [{ axis: axis + 1, before: start, after }]);
  });
}

/** A slice with fixed bounds is a window; with others, a lookup of the positions that it keeps. */
function slice(c: RuleContext, shape: Dim[], inner: PerExample): PerExample {
  const { b } = c;
  const parts = sliceOf(c, shape.length)?.filter(({ axis, step }) => step !== 1 || inner.shape[axis] !== shape[axis]);
  if (parts?.length === 0) return inner;
  const [part] = parts ?? [];
  if (
    parts?.length === 1 &&
    part?.step === 1 &&
    typeof part.start === "number" &&
    typeof inner.shape[part.axis] === "number"
  ) {
    const start = part.start < 0 ? part.start + Number(shape[part.axis]) : part.start;
    return window(c, shape, inner, part.axis, start);
  }
  const changed = shape.flatMap((dim, axis) => (dim === inner.shape[axis] ? [] : [axis]));
  const [axis] = changed;
  const [bounds] = c.x(1).shape;
  if (axis === undefined || changed.length > 1 || bounds !== 1) throw unreachable(c.node);
  const all = b.ints(Array.from({ length: Number(shape[axis]) }, (_, at) => at));
  const positions = b.op("Slice", [all, c.x(1), c.x(2), b.ints([0]), c.optional(4)]);
  return lookupOfWhole(b, fixed(shape), axis, inner, positions);
}

/** Elementwise: the derivative at the parameter times the entry. Where the parameter was repeated, from the whole. */
function scaled(c: RuleContext, position: number, shape: Dim[], inner: PerExample, rule: Rule): PerExample | null {
  const { b, node } = c;
  if (!broadcasts(node.op, position)) throw unreachable(node);
  const [y] = c.y;
  if (!y) throw unreachable(node);
  const at = (d: Value) => rule({ ...c, d, ds: [d] })[position] ?? null;
  if (!at(y)) return null;
  const gradientOfWhole = (): Value => {
    const g = at(inner.whole())?.() ?? y;
    const lead = g.shape.length - shape.length;
    const repeatedAxes = g.shape.flatMap((dim, axis) =>
      axis > 0 && (axis < lead || (shape[axis - lead] === 1 && dim !== 1)) ? [axis] : [],
    );
    return b.reshape(b.sum(g, repeatedAxes, true), [b.batch, ...shape]);
  };
  if (!sameShape(shape, inner.shape)) return held(b, gradientOfWhole, shape);
  const ones = b.filled(1, shape, y);
  const derivative = at(ones)?.() ?? y;
  return moved(
    b,
    inner,
    shape,
    (p) => [p],
    (p) => p,
    gradientOfWhole,
    derivative === ones ? null : derivative,
  );
}

const unreachable = (node: Node) =>
  new Error(
    `${where(node)}: no rule for a parameter that reaches the loss through ${node.op} before it meets an example; leave it out with --layers '!NAME'`,
  );
