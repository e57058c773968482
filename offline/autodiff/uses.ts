/**
 * How a parameter is used, and what its gradient is for each example: one rule per operator. Element by element uses (biases,
 * scales) need none: the walk sums their cotangents.
 */
import { integer, type Node, real, where } from "../onnx/graph.ts";
import { normalAxis } from "../onnx/infer/context.ts";
import { einsumLabels, windowOf } from "../onnx/infer/products.ts";
import { summedPerExample } from "./axes.ts";
import { lookup } from "./lookup.ts";
import { outerProduct } from "./outer.ts";
import { held, numberOf, type PerExample } from "./per-example.ts";
import type { RuleContext } from "./rule.ts";
import { taps } from "./taps.ts";

/** The gradient of the input at `position` (a parameter, or made of parameters alone). */
export type Use = (c: RuleContext, position: number, shape: number[]) => PerExample;

const tooFew = (node: Node, got: string) =>
  new Error(
    `${where(node)}: expected examples in exactly one operand beside the parameter, got ${got}; export the layer as a plain product`,
  );

/** y = x·W or W·x, where W may have axes before its last two. */
const matmul: Use = (c, position, shape) => {
  const other = c.x(1 - position);
  const isRight = position === 1;
  const vector = shape.length === 1;
  const matrix = vector ? (isRight ? [...shape, 1] : [1, ...shape]) : shape;
  const [rows = 1, columns = 1] = matrix.slice(-2);
  const x = other.shape.length === 1 ? c.b.reshape(other, isRight ? [1, ...other.shape] : [...other.shape, 1]) : other;
  // An operand of one axis leaves none in the result: it comes back with extent 1, of the left one before the last, of the right one last.
  const dShape = [...c.d.shape];
  const [leftGone, rightGone] = [
    isRight ? other.shape.length === 1 : vector,
    isRight ? vector : other.shape.length === 1,
  ];
  if (rightGone) dShape.push(1);
  if (leftGone) dShape.splice(dShape.length - 1, 0, 1);
  const d = c.b.reshape(c.d, dShape);
  const lead = matrix.slice(0, -2);
  // Leading axes of W: those of extent above 1 are rows of δ, and of x where x has them too.
  const wide = lead.flatMap((extent, axis) => (extent === 1 ? [] : [axis - lead.length]));
  const inX = wide.filter((axis) => (x.shape.at(axis - 2) ?? 1) !== 1);
  if (inX.length !== wide.length && inX.length > 0) {
    throw tooFew(c.node, `a weight of shape [${shape}] with axes broadcast in part`);
  }
  const sharedAxes = inX.length === wide.length;
  const axisIn = (v: { shape: unknown[] }, negative: number) => v.shape.length + negative - 2;
  const block = numberOf(wide.map((axis) => matrix.at(axis - 2) ?? 1));
  const xAxes = [
    ...(sharedAxes ? wide.map((axis) => axisIn(x, axis)) : []),
    isRight ? x.shape.length - 1 : x.shape.length - 2,
  ];
  const dAxes = [...wide.map((axis) => axisIn(d, axis)), isRight ? d.shape.length - 1 : d.shape.length - 2];
  const [contracted, kept] = isRight ? [rows, columns] : [columns, rows];
  return outerProduct(c.b, shape, {
    x,
    xAxes,
    d,
    dAxes,
    shared: sharedAxes ? block : 1,
    scale: 1,
    rows: (at) => {
      const h = Math.floor(at / (rows * columns));
      const [i, j] = [Math.floor(at / columns) % rows, at % columns];
      const [p, q] = isRight ? [i, j] : [j, i];
      return [(sharedAxes ? h * contracted : 0) + p, h * kept + q];
    },
    position: (row, column) => {
      const [p, q] = [row % contracted, column % kept];
      const [i, j] = isRight ? [p, q] : [q, p];
      return (Math.floor(column / kept) * rows + i) * columns + j;
    },
  });
};

const gemm: Use = (c, position, shape) => {
  const { b } = c;
  if (position === 2) {
    return held(b, () => b.scaled(summedPerExample(b, c.d, shape), real(c.node, "beta", 1)), shape);
  }
  const other = c.x(1 - position);
  const [ta, tb] = [integer(c.node, "transA", 0), integer(c.node, "transB", 0)];
  const columns = shape[1] ?? 1;
  const isRight = position === 1;
  // B is [K, N] (or turned), A is [M, K] (or turned): its contracted axis meets x, the other meets δ.
  const contractedFirst = isRight ? tb === 0 : ta === 1;
  const xAxis = isRight ? (ta ? 0 : 1) : tb ? 1 : 0;
  return outerProduct(b, shape, {
    x: other,
    xAxes: [xAxis],
    d: c.d,
    dAxes: [c.d.shape.length - (isRight ? 1 : 2)],
    shared: 1,
    scale: real(c.node, "alpha", 1),
    rows: (at) => {
      const [i, j] = [Math.floor(at / columns), at % columns];
      return contractedFirst ? [i, j] : [j, i];
    },
    position: (p, q) => (contractedFirst ? p * columns + q : q * columns + p),
  });
};

/** An Einsum of the parameter with others, whose own product is taken first. */
const einsum: Use = (c, position, shape) => {
  const { operands, result } = einsumLabels(c.node);
  const w = operands[position] ?? "";
  const others = operands.flatMap((labels, index) => (index === position ? [] : [{ labels, value: c.x(index) }]));
  const [first] = others;
  if (!first) throw tooFew(c.node, "one operand");
  const seen = [...new Set(others.flatMap(({ labels }) => [...labels]))].filter(
    (label) => w.includes(label) || result.includes(label),
  );
  const x = others.length === 1 ? first.labels : seen.join("");
  const equation = `${others.map(({ labels }) => labels).join(",")}->${x}`;
  const value =
    others.length === 1
      ? first.value
      : c.b.op(
          "Einsum",
          others.map((other) => other.value),
          { equation },
        );
  const labels = [...w];
  const shared = labels.filter((label) => x.includes(label) && result.includes(label));
  const inX = labels.filter((label) => x.includes(label) && !result.includes(label));
  const inD = labels.filter((label) => !x.includes(label) && result.includes(label));
  if (
    shared.length + inX.length + inD.length !== labels.length ||
    [...x].some((label) => !w.includes(label) && !result.includes(label))
  ) {
    throw tooFew(c.node, `an equation that sums ${w} or ${x} alone`);
  }
  const extent = (label: string) => shape[labels.indexOf(label)] ?? 1;
  const strides = labels.map((_, axis) => numberOf(shape.slice(axis + 1)));
  const index = (at: number, chosen: string[]) =>
    chosen.reduce((row, label) => {
      const axis = labels.indexOf(label);
      return row * extent(label) + (Math.floor(at / (strides[axis] ?? 1)) % extent(label));
    }, 0);
  /** The part of a position that the labels' indices, as one number, make up; an index before theirs is dropped. */
  const placed = (row: number, chosen: string[]) => {
    let [left, at] = [row, 0];
    for (const label of chosen.toReversed()) {
      at += (left % extent(label)) * (strides[labels.indexOf(label)] ?? 1);
      left = Math.floor(left / extent(label));
    }
    return at;
  };
  // Positions come in the result's order in δ: x is brought to the same order.
  const positions = [...result].filter((label) => !w.includes(label));
  const order = [...positions.filter((label) => x.includes(label)), ...shared, ...inX];
  const turned = c.b.transpose(
    value,
    order.map((label) => x.indexOf(label)),
  );
  return outerProduct(c.b, shape, {
    x: turned,
    xAxes: [...shared, ...inX].map((label) => order.indexOf(label)),
    d: c.d,
    dAxes: [...shared, ...inD].map((label) => result.indexOf(label)),
    shared: numberOf(shared.map(extent)),
    scale: 1,
    rows: (at) => [index(at, [...shared, ...inX]), index(at, [...shared, ...inD])],
    position: (p, q) => placed(p, inX) + placed(q, [...shared, ...inD]),
  });
};

const gather: Use = (c, position, shape) => {
  if (position !== 0)
    throw new Error(`${where(c.node)}: expected a table as the first input, got a parameter as the index`);
  const indices = c.x(1);
  const axis = normalAxis(integer(c.node, "axis", 0), shape.length);
  const span = indices.shape.length;
  const rowAxes = c.d.shape.flatMap((_, a) => (a < axis || a >= axis + span ? [a] : []));
  return lookup(c.b, shape, axis, c.d, indices, rowAxes);
};

const biasOf = (c: RuleContext, shape: number[]): PerExample => {
  const channels = [1, ...shape, ...c.d.shape.slice(2).map(() => 1)];
  return held(c.b, () => c.b.reshape(summedPerExample(c.b, c.d, channels), [c.b.batch, ...shape]), shape);
};

const conv: Use = (c, position, shape) => {
  if (position === 2) return biasOf(c, shape);
  const x = c.x(0);
  const group = integer(c.node, "group", 1);
  const { kernel, strides, dilations, pads } = windowOf(c.node, x.shape.slice(2), shape.slice(2));
  const size = numberOf(kernel);
  const [outputs = 1, inputs = 1] = shape;
  return taps(c.b, shape, {
    padded: x,
    plain: c.d,
    kernel,
    strides,
    dilations,
    pads: pads.map(([begin, end]) => [Number(begin), Number(end)]),
    channels: (at) => {
      const output = Math.floor(at / (inputs * size));
      const group_ = Math.floor(output / (outputs / group));
      return [group_ * inputs + (Math.floor(at / size) % inputs), output];
    },
    position: (channel, output, offset) => (output * inputs + (channel % inputs)) * size + offset,
    groups: group,
  });
};

/** Roles exchanged: the kernel's first axis meets x, and δ is the padded side. */
const convTranspose: Use = (c, position, shape) => {
  if (position === 2) return biasOf(c, shape);
  const group = integer(c.node, "group", 1);
  const { kernel, strides, dilations, pads } = windowOf(c.node, c.d.shape.slice(2), shape.slice(2));
  const size = numberOf(kernel);
  const [inputs = 1, outputs = 1] = shape;
  return taps(c.b, shape, {
    padded: c.d,
    plain: c.x(0),
    kernel,
    strides,
    dilations,
    pads: pads.map(([begin, end]) => [Number(begin), Number(end)]),
    channels: (at) => {
      const input = Math.floor(at / (outputs * size));
      const group_ = Math.floor(input / (inputs / group));
      return [group_ * outputs + (Math.floor(at / size) % outputs), input];
    },
    position: (channel, input, offset) => (input * outputs + (channel % outputs)) * size + offset,
    groups: group,
  });
};

export const USES: Record<string, Use> = {
  MatMul: matmul,
  Gemm: gemm,
  Einsum: einsum,
  Gather: gather,
  Conv: conv,
  ConvTranspose: convTranspose,
};
