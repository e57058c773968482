/**
 * Through what is made of parameters alone: from the per-example gradient of a node's output to that of its input, entry by
 * entry. Moves (Transpose, Reshape, Slice …) follow each kept entry to where it went; scaling (a product with a constant, a
 * function of one variable) multiplies it.
 */
import { integer, type Node, type Value, where } from "../onnx/graph.ts";
import { normalAxis, permutation, sliceOf, splitSizes } from "../onnx/infer.ts";
import { held, moved, numberOf, type PerExample } from "./per-example.ts";
import type { Rule, RuleContext } from "./rule.ts";
import { broadcasts } from "./rules.ts";
import { lookupOfWhole } from "./uses.ts";

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
  shape: number[],
  inner: PerExample,
  rule: Rule,
): PerExample | null {
  const { b, node } = c;
  const to = inner.shape;
  const whole = () => inner.whole();
  switch (node.op) {
    case "Identity":
    case "Cast":
      return { ...inner, shape };
    case "Reshape":
    case "Flatten":
    case "Squeeze":
    case "Unsqueeze":
      return moved(
        b,
        inner,
        shape,
        (at) => [at],
        () => b.reshape(whole(), [b.batch, ...shape]),
      );
    case "Transpose": {
      const order = permutation(node, shape.length);
      const back = [0, ...order.map((_, axis) => order.indexOf(axis) + 1)];
      const target = (at: number) => {
        const index = unravel(at, shape);
        return [
          ravel(
            order.map((axis) => index[axis] ?? 0),
            to,
          ),
        ];
      };
      return moved(b, inner, shape, target, () => b.transpose(whole(), back));
    }
    case "Expand": {
      const lead = to.length - shape.length;
      const copies = to.map((extent, axis) => (axis < lead || shape[axis - lead] === 1 ? extent : 1));
      return moved(
        b,
        inner,
        shape,
        (at) => repeated(unravel(at, shape), copies, lead, to),
        () => {
          const summedAxes = copies.flatMap((extent, axis) => (extent > 1 ? [axis + 1] : []));
          return b.reshape(b.sum(whole(), summedAxes, true), [b.batch, ...shape]);
        },
      );
    }
    case "Slice":
      return slice(c, shape, inner);
    case "Split": {
      const axis = normalAxis(integer(node, "axis", 0), shape.length);
      const sizes = splitSizes(c, shape[axis] ?? 1).map(Number);
      const part = node.outputs.findIndex((_, index) => sameShape(c.y[index]?.shape ?? [], to));
      return window(
        c,
        shape,
        inner,
        axis,
        sizes.slice(0, part).reduce((a, s) => a + s, 0),
      );
    }
    case "Concat": {
      const axis = normalAxis(integer(node, "axis", 0), shape.length);
      const before = node.inputs.slice(0, position).reduce((sum, _, index) => sum + Number(c.x(index).shape[axis]), 0);
      const target = (at: number) => {
        const index = unravel(at, shape);
        index[axis] = (index[axis] ?? 0) + before;
        return [ravel(index, to)];
      };
      const cut = () => b.slice(whole(), [{ axis: axis + 1, start: before, end: before + (shape[axis] ?? 0) }]);
      return moved(b, inner, shape, target, cut);
    }
    case "Gather":
      if (position !== 0) return null;
      return lookupOfWhole(b, shape, normalAxis(integer(node, "axis", 0), shape.length), inner, c.x(1));
    default:
      return scaled(c, position, shape, inner, rule);
  }
}

const sameShape = (a: readonly (number | string)[], b: readonly number[]) =>
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
function window(c: RuleContext, shape: number[], inner: PerExample, axis: number, start: number): PerExample {
  const { b } = c;
  const extent = inner.shape[axis] ?? 1;
  const target = (at: number) => {
    const index = unravel(at, shape);
    const inside = (index[axis] ?? 0) - start;
    index[axis] = inside;
    return inside >= 0 && inside < extent ? [ravel(index, inner.shape)] : [];
  };
  return moved(b, inner, shape, target, () => {
    const d = inner.whole();
    const after = (shape[axis] ?? 1) - start - extent;
    return b.op("Pad", [d, b.ints([start, after]), b.scalar(0, d), b.ints([axis + 1])]);
  });
}

function slice(c: RuleContext, shape: number[], inner: PerExample): PerExample {
  const parts = sliceOf(c, shape.length)?.filter(({ axis, step }) => step !== 1 || inner.shape[axis] !== shape[axis]);
  if (parts?.length === 0) return inner;
  const [part] = parts ?? [];
  const fixed = parts?.length === 1 && part && part.step === 1 && typeof part.start === "number";
  if (!fixed) throw unreachable(c.node);
  const start = Number(part.start);
  return window(c, shape, inner, part.axis, start < 0 ? start + (shape[part.axis] ?? 1) : start);
}

/** Elementwise: the derivative at the parameter times the entry. Where the parameter was repeated, from the whole. */
function scaled(c: RuleContext, position: number, shape: number[], inner: PerExample, rule: Rule): PerExample | null {
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
  if (!sameShape(shape, inner.shape)) return held(b, gradientOfWhole(), shape);
  const derivative = at(b.filled(1, shape, y))?.() ?? y;
  return moved(b, inner, shape, (p) => [p], gradientOfWhole, derivative);
}

const unreachable = (node: Node) =>
  new Error(
    `${where(node)}: no rule for a parameter that reaches the loss through ${node.op} before it meets an example; leave it out with --layers '!NAME'`,
  );
