/**
 * How a parameter is used, and what its gradient is for each example: one rule per operator. Element by element uses (biases,
 * scales) need none: the walk sums their cotangents.
 */
import type { Builder } from "../onnx/builder.ts";
import { minus, plus, productOf, times } from "../onnx/dims.ts";
import { integer, type Node, real, type Value, where } from "../onnx/graph.ts";
import { einsumLabels, normalAxis, windowOf } from "../onnx/infer.ts";
import {
  estimate,
  examplesFirst,
  type Factors,
  held,
  numberOf,
  type PerExample,
  rowsFirst,
  summedPerExample,
} from "./per-example.ts";
import type { RuleContext } from "./rule.ts";

/** The gradient of the input at `position` (a parameter, or made of parameters alone). */
export type Use = (c: RuleContext, position: number, shape: number[]) => PerExample;

/** Gathering two entries, their product and its sum, against one multiply-add inside a matrix product (measured). */
const ROW_COST = 24;
/** Below this size a whole gradient per example is allowed where it is cheaper. */
const LARGEST_WHOLE = 1 << 17;

interface Outer {
  x: Value;
  xAxes: number[];
  d: Value;
  dAxes: number[];
  /** Extent of the axes that x and δ share, which come first in both. */
  shared: number;
  /** Rows of x and δ of an entry. */
  rows: (position: number) => [number, number];
  scale: number;
}

const sumOfSquares = (b: Builder, rows: Value): Value =>
  b.sum(
    b.mul(rows, rows),
    rows.shape.flatMap((_, axis) => (axis === 0 ? [] : [axis])),
  );

/** Σ over positions of x[row] · δ[row]. */
function outerProduct(b: Builder, shape: number[], use: Outer): PerExample {
  const { x, d } = use;
  const xRows = numberOf(use.xAxes.map((axis) => Number(x.shape[axis])));
  const dRows = numberOf(use.dAxes.map((axis) => Number(d.shape[axis])));
  const [xWidth, dWidth] = [xRows / use.shared, dRows / use.shared];
  const positions =
    (estimate(d.shape.filter((_, axis) => axis !== d.batch?.axis)) / dRows) * estimate([d.batch?.inner ?? 1]);
  const full = xWidth * dRows;

  /** [B, shared·xWidth, dWidth], flattened to rows of entries. */
  function product(): Value {
    const [left, right] = [examplesFirst(b, x, use.xAxes), examplesFirst(b, d, use.dAxes)];
    const blocks = (v: Value, width: number) =>
      use.shared === 1 ? v : b.reshape(v, [b.batch, use.shared, width, ...v.shape.slice(2)]);
    const turned = b.transpose(blocks(right, dWidth), use.shared === 1 ? [0, 2, 1] : [0, 1, 3, 2]);
    return b.scaled(b.op("MatMul", [blocks(left, xWidth), turned]), use.scale);
  }
  const entry = (position: number): number => {
    const [p, q] = use.rows(position);
    return p * dWidth + (q % dWidth);
  };

  const plan: PerExample["plan"] = (count) => {
    const rowsCost = ROW_COST * count * positions;
    const wholeCost = full * positions + 8 * full;
    return wholeCost < rowsCost && full <= LARGEST_WHOLE
      ? { kind: "whole", cost: wholeCost }
      : { kind: "rows", cost: rowsCost };
  };
  const factors: Factors = {
    x: () => sumOfSquares(b, rowsFirst(b, x, use.xAxes)),
    d: () => sumOfSquares(b, rowsFirst(b, d, use.dAxes)),
    rows: use.rows,
  };
  return {
    shape,
    at: (kept) => {
      if (plan(kept.length).kind === "whole") {
        const entries = b.transpose(b.reshape(product(), [b.batch, full]), [1, 0]);
        return b.gather(entries, kept.map(entry));
      }
      const pairs = kept.map(use.rows);
      const left = b.gather(
        rowsFirst(b, x, use.xAxes),
        pairs.map(([p]) => p),
      );
      const right = b.gather(
        rowsFirst(b, d, use.dAxes),
        pairs.map(([, q]) => q),
      );
      return b.scaled(overPositions(b, b.mul(left, right)), use.scale);
    },
    whole: () => {
      const entries = b.reshape(product(), [b.batch, full]);
      const order = Array.from({ length: numberOf(shape) }, (_, position) => entry(position));
      const straight = order.every((at, position) => at === position);
      return b.reshape(straight ? entries : b.gather(entries, order, 1), [b.batch, ...shape]);
    },
    plan,
    factors,
  };
}

/** [r, B, ...positions] → [r, B]. */
const overPositions = (b: Builder, products: Value): Value =>
  b.sum(
    products,
    products.shape.flatMap((_, axis) => (axis < 2 ? [] : [axis])),
  );

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
  const dShape = [...c.d.shape];
  if (vector) dShape.splice(isRight ? dShape.length : dShape.length - 1, 0, 1);
  const d = c.b.reshape(c.d, dShape);
  const lead = matrix.slice(0, -2);
  // Leading axes of W: those of extent above 1 are rows of δ, and of x where x has them too.
  const wide = lead.flatMap((extent, axis) => (extent === 1 ? [] : [axis - lead.length]));
  const inX = wide.filter((axis) => (x.shape.at(axis - 2) ?? 1) !== 1);
  if (inX.length !== wide.length) {
    if (inX.length > 0) throw tooFew(c.node, `a weight of shape [${shape}] with axes broadcast in part`);
  }
  const sharedAxes = inX.length === wide.length;
  const axisIn = (v: Value, negative: number) => v.shape.length + negative - 2;
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
  });
};

const gemm: Use = (c, position, shape) => {
  const { b } = c;
  if (position === 2) {
    return held(b, b.scaled(summedPerExample(b, c.d, shape), real(c.node, "beta", 1)), shape);
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
  });
};

/** A table's row v gets the cotangents of the positions whose index is v. */
const gather: Use = (c, position, shape) => {
  if (position !== 0)
    throw new Error(`${where(c.node)}: expected a table as the first input, got a parameter as the index`);
  const indices = c.x(1);
  const axis = normalAxis(integer(c.node, "axis", 0), shape.length);
  const d = c.d;
  const span = indices.shape.length;
  return lookup(c.b, shape, axis, d, indices, (v) =>
    rowsFirst(
      c.b,
      v,
      d.shape.flatMap((_, a) => (a < axis || a >= axis + span ? [a] : [])),
    ),
  );
};

/**
 * The gradient of a table of which `indices` chose slices along `axis`: rows [other axes, B, ...positions] of the cotangent,
 * where the index is the entry's.
 */
function lookup(
  b: Builder,
  shape: number[],
  axis: number,
  d: Value,
  indices: Value,
  rows: (d: Value) => Value,
): PerExample {
  const after = numberOf(shape.slice(axis + 1));
  const count = shape[axis] ?? 1;
  const inside = (at: number) => Math.floor(at / (after * count)) * after + (at % after);
  const chosen = () => {
    const places = rows(d).shape.slice(2);
    const one = indices.batch ? rowsFirst(b, indices, []) : b.reshape(indices, [1, 1, ...places]);
    const negative = b.op("Less", [one, b.scalar(0, one)]);
    return b.where(negative, b.shifted(one, count), one);
  };
  const positions = estimate(d.shape) / (numberOf(shape) / count) / 128;
  return {
    shape,
    at: (kept) => {
      const picked = b.gather(rows(d), kept.map(inside));
      const wanted = kept.map((at) => Math.floor(at / after) % count);
      const index = chosen();
      const line = b.constant(index.type, [kept.length, ...index.shape.slice(1).map(() => 1)], wanted);
      return overPositions(b, b.where(b.op("Equal", [index, line]), picked, b.scalar(0, picked)));
    },
    whole: () => {
      throw new Error(`a table of shape [${shape}]: expected it to be read as it is, got it changed before the lookup`);
    },
    plan: (kept) => ({ kind: "lookup", cost: ROW_COST * kept * positions }),
    factors: null,
  };
}

/** A parameter chosen from by indices that do not depend on the examples: `d` is [B, ...chosen]. */
export function lookupOfWhole(
  b: Builder,
  shape: number[],
  axis: number,
  inner: PerExample,
  indices: Value,
): PerExample {
  const d = inner.whole();
  const span = indices.shape.length;
  const rowAxes = d.shape.flatMap((_, a) => (a > 0 && (a - 1 < axis || a - 1 >= axis + span) ? [a] : []));
  return lookup(b, shape, axis, d, indices, (v) => rowsFirst(b, v, rowAxes));
}

const biasOf = (c: RuleContext, shape: number[]): PerExample => {
  const channels = [1, ...shape, ...c.d.shape.slice(2).map(() => 1)];
  return held(c.b, c.b.reshape(summedPerExample(c.b, c.d, channels), [c.b.batch, ...shape]), shape);
};

/** The shared geometry of a convolution and its transpose: a kernel entry pairs `images` (padded, shifted) with `outputs`. */
interface Taps {
  /** The padded side, [B, C, ...], and the other, [B, O, ...]. */
  padded: Value;
  plain: Value;
  kernel: number[];
  strides: number[];
  dilations: number[];
  pads: [number, number][];
  /** Channels of the padded and of the plain side of a kernel's entry. */
  channels: (position: number) => [number, number];
}

function taps(b: Builder, shape: number[], t: Taps): PerExample {
  const size = numberOf(t.kernel);
  const out = t.plain.shape.slice(2);
  const channelCount = Number(t.padded.shape[1]);
  const plainCount = Number(t.plain.shape[1]);
  const positions = estimate(out);
  const axes = t.kernel.map((_, k) => k + 2);
  const image = () =>
    b.pad(
      t.padded,
      t.pads.map(([before, after], k) => ({ axis: k + 2, before, after })),
    );
  /** What a kernel offset sees: of [·, ·, ...image] the entries under it, [·, ·, ...out]. */
  const under = (v: Value, offset: number) => {
    let rest = offset;
    const index = t.kernel.map((_, k) => {
      const stride = numberOf(t.kernel.slice(k + 1));
      const at = Math.floor(rest / stride);
      rest -= at * stride;
      return at;
    });
    const cuts = axes.flatMap((axis, k) => {
      const start = (index[k] ?? 0) * (t.dilations[k] ?? 1);
      const step = t.strides[k] ?? 1;
      const extent = v.shape[axis];
      const count = out[k] ?? 1;
      if (start === 0 && step === 1 && count === extent) return [];
      return [{ axis, start, end: plus(times(minus(count, 1), step), start + 1), step }];
    });
    return b.slice(v, cuts);
  };
  const full = channelCount * size * plainCount;
  const plan: PerExample["plan"] = (count) => {
    const tapsCost = ROW_COST * count * positions + (channelCount + plainCount) * positions * 4;
    const wholeCost = full * positions + channelCount * size * positions * 4 + 8 * full;
    return wholeCost < tapsCost && full <= LARGEST_WHOLE
      ? { kind: "whole", cost: wholeCost }
      : { kind: "taps", cost: tapsCost };
  };
  /** Every patch against every channel: [B, C·taps, O]. */
  const product = () => {
    const seen = image();
    const spots = [productOf(out)];
    const patches = Array.from({ length: size }, (_, offset) =>
      b.reshape(under(seen, offset), [b.batch, channelCount, 1, ...spots]),
    );
    const unfolded = b.reshape(b.concat(patches, 2), [b.batch, channelCount * size, ...spots]);
    const flat = b.reshape(t.plain, [b.batch, plainCount, ...spots]);
    return b.reshape(b.op("MatMul", [unfolded, b.transpose(flat, [0, 2, 1])]), [b.batch, full]);
  };
  const entry = (at: number) => {
    const [channel, plain] = t.channels(at);
    return (channel * size + (at % size)) * plainCount + plain;
  };
  function at(kept: readonly number[]): Value {
    if (plan(kept.length).kind === "whole") return b.gather(b.transpose(product(), [1, 0]), kept.map(entry));
    const other = rowsFirst(b, t.plain, [1]);
    const images = b.reshape(b.transpose(image(), [1, 0, ...axes]), [channelCount, b.batch, ...image().shape.slice(2)]);
    const order: number[] = [];
    const parts: Value[] = [];
    for (let offset = 0; offset < size; offset++) {
      const here = kept.flatMap((position, rank) => (position % size === offset ? [{ position, rank }] : []));
      if (here.length === 0) continue;
      const pairs = here.map(({ position }) => t.channels(position));
      // Whichever touches less: shift all channels and then pick, or pick and then shift.
      const seen =
        channelCount <= here.length
          ? b.gather(
              under(images, offset),
              pairs.map(([channel]) => channel),
            )
          : under(
              b.gather(
                images,
                pairs.map(([channel]) => channel),
              ),
              offset,
            );
      const shifted = b.reshape(seen, [here.length, b.batch, ...out.filter((dim) => dim !== 1)]);
      const delta = b.gather(
        other,
        pairs.map(([, plain]) => plain),
      );
      parts.push(overPositions(b, b.mul(shifted, delta)));
      order.push(...here.map(({ rank }) => rank));
    }
    const joined = b.concat(parts, 0);
    return b.gather(
      joined,
      kept.map((_, rank) => order.indexOf(rank)),
    );
  }
  return {
    shape,
    at,
    whole: () => {
      const order = Array.from({ length: numberOf(shape) }, (_, position) => entry(position));
      return b.reshape(b.gather(product(), order, 1), [b.batch, ...shape]);
    },
    plan,
    factors: {
      x: () => sumOfSquares(b, rowsFirst(b, t.padded, [1])),
      d: () => sumOfSquares(b, rowsFirst(b, t.plain, [1])),
      rows: t.channels,
    },
  };
}

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
