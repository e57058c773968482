/**
 * What is known of a node's outputs before it runs: element type, shape, and the contents of small integer values (shapes that
 * the model computes). One entry an operator; the same table serves the model's nodes and the nodes that the compiler adds.
 */
import { type Dim, floorQuotient, mentions, minus, plus, productOf, quotient, times } from "./dims.ts";
import { ELEMENT, integer, integers, type Node, text, type Value, where } from "./graph.ts";
import { foldArithmetic, foldComparison, foldSlice, foldTranspose } from "./known.ts";
import { numbersOf } from "./tensor.ts";

export interface Inferred {
  type: number;
  shape: Dim[];
  known?: Dim[] | null;
  /** Positions between examples along the batch axis, where the axis holds more than the examples. */
  inner?: Dim | null;
  /** The operator combines values of different examples. */
  mixes?: boolean;
}

export interface InferContext {
  node: Node;
  /** The input, which must be there. */
  input(index: number): Value;
  /** The input, or null if it is left out. */
  optional(index: number): Value | null;
  /** Contents of a constant input, or null. */
  constant(index: number): Dim[] | null;
  /** A symbol for an extent of which nothing is known. */
  unknown(): string;
  /** The symbol of the number of examples. */
  batch: string;
}

type Infer = (context: InferContext) => Inferred[];

/** Symbols for extents of which nothing is known. */
export const unknownExtent = (number: number): string => `unknown${number}`;
const isUnknown = (dim: Dim): boolean => typeof dim === "string" && dim.startsWith("unknown");

/** The shape of an elementwise result. An extent that is not 1 is the result's; of two that differ, a number is trusted. */
export function broadcast(shapes: readonly (readonly Dim[])[]): Dim[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1).filter((dim) => dim !== 1);
    return dims.find((dim) => typeof dim === "number") ?? dims.find((dim) => !isUnknown(dim)) ?? dims[0] ?? 1;
  });
}

export const normalAxis = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

const present = (c: InferContext): Value[] =>
  c.node.inputs.flatMap((name, index) => (name === "" ? [] : [c.input(index)]));

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

/** The axes that a reduction, Squeeze or Unsqueeze names, as non-negative numbers of `rank`; null if they are not constant. */
export function axesOf(c: Pick<InferContext, "node" | "constant">, index: number, rank: number): number[] | null {
  const given = integers(c.node, "axes") ?? (c.node.inputs[index] ? c.constant(index) : []);
  if (!given?.every((axis) => typeof axis === "number")) return null;
  return given.map((axis) => normalAxis(axis, rank));
}

function required<T>(c: InferContext, what: string, value: T | null): T {
  if (value === null) {
    throw new Error(
      `${where(c.node)}: expected ${what} to be known before running; export the model with fixed ${what}`,
    );
  }
  return value;
}

const overBatch = (value: Value, axes: readonly number[]): boolean =>
  value.batch !== null && axes.includes(value.batch.axis);

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

/** Begin and end padding of each spatial axis. */
export function padding(
  node: Node,
  sizes: readonly Dim[],
  kernel: readonly number[],
  strides: readonly number[],
  dilations: readonly number[],
): [Dim, Dim][] {
  const auto = text(node, "auto_pad", "NOTSET");
  const pads = integers(node, "pads") ?? kernel.flatMap(() => [0, 0]);
  if (auto === "NOTSET") return kernel.map((_, k) => [pads[k] ?? 0, pads[k + kernel.length] ?? 0]);
  if (auto === "VALID") return kernel.map(() => [0, 0]);
  return kernel.map((extent, k) => {
    const size = sizes[k];
    if (typeof size !== "number") {
      throw new Error(
        `${where(node)}: expected a fixed image size with auto_pad ${auto}, got ${size}; export with pads`,
      );
    }
    const stride = strides[k] ?? 1;
    const total = Math.max((Math.ceil(size / stride) - 1) * stride + (extent - 1) * (dilations[k] ?? 1) + 1 - size, 0);
    const less = Math.floor(total / 2);
    return auto === "SAME_UPPER" ? [less, total - less] : [total - less, less];
  });
}

/** Kernel, strides, dilations and padding of a convolution or pooling. */
export function windowOf(node: Node, sizes: readonly Dim[], kernelShape: readonly Dim[]) {
  const kernel = kernelShape.map((extent) => {
    if (typeof extent !== "number") throw new Error(`${where(node)}: expected a fixed kernel size, got ${extent}`);
    return extent;
  });
  const strides = integers(node, "strides") ?? kernel.map(() => 1);
  const dilations = integers(node, "dilations") ?? kernel.map(() => 1);
  return { kernel, strides, dilations, pads: padding(node, sizes, kernel, strides, dilations) };
}

const convolution: Infer = (c) => {
  const [x, w] = [c.input(0), c.input(1)];
  const sizes = x.shape.slice(2);
  const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, w.shape.slice(2));
  const out = sizes.map((size, k) => {
    const [begin, end] = pads[k] ?? [0, 0];
    const span = (dilations[k] ?? 1) * ((kernel[k] ?? 1) - 1) + 1;
    return plus(floorQuotient(minus(plus(plus(size, begin), end), span), strides[k] ?? 1), 1);
  });
  return [{ type: x.type, shape: [x.shape[0] ?? 1, w.shape[0] ?? 1, ...out] }];
};

const transposedConvolution: Infer = (c) => {
  const [x, w] = [c.input(0), c.input(1)];
  const sizes = x.shape.slice(2);
  const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, w.shape.slice(2));
  const extra = integers(c.node, "output_padding") ?? kernel.map(() => 0);
  const out = sizes.map((size, k) => {
    const [begin, end] = pads[k] ?? [0, 0];
    const span = (dilations[k] ?? 1) * ((kernel[k] ?? 1) - 1) + 1;
    return minus(plus(times(minus(size, 1), strides[k] ?? 1), span + (extra[k] ?? 0)), plus(begin, end));
  });
  return [{ type: x.type, shape: [x.shape[0] ?? 1, times(w.shape[1] ?? 1, integer(c.node, "group", 1)), ...out] }];
};

const pooling: Infer = (c) => {
  const x = c.input(0);
  const sizes = x.shape.slice(2);
  const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, integers(c.node, "kernel_shape") ?? []);
  const ceil = integer(c.node, "ceil_mode", 0) === 1;
  const out = sizes.map((size, k) => {
    const [begin, end] = pads[k] ?? [0, 0];
    const stride = strides[k] ?? 1;
    const room = minus(plus(plus(size, begin), end), (dilations[k] ?? 1) * ((kernel[k] ?? 1) - 1) + 1);
    const count = plus(floorQuotient(ceil ? plus(room, stride - 1) : room, stride), 1);
    // With ceil_mode a window may hang over the end, but it must start inside the image or its first padding.
    if (ceil && typeof count === "number" && typeof size === "number" && typeof begin === "number") {
      return (count - 1) * stride >= size + begin ? count - 1 : count;
    }
    return count;
  });
  const shape = [...x.shape.slice(0, 2), ...out];
  return [
    { type: x.type, shape },
    { type: ELEMENT.int64, shape },
  ];
};

const globalPooling: Infer = (c) => [
  { type: c.input(0).type, shape: c.input(0).shape.map((dim, axis) => (axis < 2 ? dim : 1)) },
];

const matmul: Infer = (c) => {
  const [a, b] = [c.input(0), c.input(1)];
  const left = a.shape.length === 1 ? [1, ...a.shape] : a.shape;
  const right = b.shape.length === 1 ? [...b.shape, 1] : b.shape;
  const shape = [
    ...broadcast([left.slice(0, -2), right.slice(0, -2)]),
    ...(a.shape.length === 1 ? [] : left.slice(-2, -1)),
    ...(b.shape.length === 1 ? [] : right.slice(-1)),
  ];
  const contracted = overBatch(a, [a.shape.length - 1]) || overBatch(b, [Math.max(b.shape.length - 2, 0)]);
  return [{ type: a.type, shape, mixes: contracted }];
};

const gemm: Infer = (c) => {
  const [a, b] = [c.input(0), c.input(1)];
  const [ta, tb] = [integer(c.node, "transA", 0), integer(c.node, "transB", 0)];
  return [
    {
      type: a.type,
      shape: [a.shape[ta ? 1 : 0] ?? 1, b.shape[tb ? 0 : 1] ?? 1],
      mixes: overBatch(a, [ta ? 0 : 1]) || overBatch(b, [tb ? 1 : 0]),
    },
  ];
};

/** The labels of an Einsum's operands and result. Throws on an ellipsis. */
export function einsumLabels(node: Node): { operands: string[]; result: string } {
  const [left = "", right] = text(node, "equation", "").replaceAll(" ", "").split("->");
  if (left.includes(".") || right === undefined) {
    throw new Error(`${where(node)}: expected an equation with "->" and no "...", got ${text(node, "equation", "")}`);
  }
  return { operands: left.split(","), result: right };
}

const einsum: Infer = (c) => {
  const { operands, result } = einsumLabels(c.node);
  const extent = new Map<string, Dim>();
  let mixes = false;
  operands.forEach((labels, index) => {
    const value = c.input(index);
    [...labels].forEach((label, axis) => {
      if (!extent.has(label) || extent.get(label) === 1) extent.set(label, value.shape[axis] ?? 1);
      if (value.batch?.axis === axis && !result.includes(label)) mixes = true;
    });
  });
  return [{ type: c.input(0).type, shape: [...result].map((label) => extent.get(label) ?? 1), mixes }];
};

const reshape: Infer = (c) => {
  const x = c.input(0);
  const target = c.constant(1);
  if (!target) {
    const rank = c.input(1).shape[0];
    const count = required(c, "the rank of the result", typeof rank === "number" ? rank : null);
    return [{ type: x.type, shape: Array.from({ length: count }, () => c.unknown()) }];
  }
  const copies = integer(c.node, "allowzero", 0) === 0;
  const shape = target.map((dim, axis) => (dim === 0 && copies ? (x.shape[axis] ?? 0) : dim));
  const gap = shape.indexOf(-1);
  if (gap >= 0) {
    const rest = productOf(shape.filter((_, axis) => axis !== gap));
    shape[gap] = quotient(productOf(x.shape), rest) ?? c.unknown();
  }
  return [{ type: x.type, shape, known: x.known, inner: innerAfterReshape(x, shape, c.batch) }];
};

/** Stride arithmetic: example b starts every `stride` entries before and after, whatever axes they are cut into. */
function innerAfterReshape(x: Value, shape: readonly Dim[], batch: string): Dim | null {
  if (!x.batch) return null;
  const axis = shape.findIndex((dim) => mentions(dim, batch));
  const stride = times(productOf(x.shape.slice(x.batch.axis + 1)), x.batch.inner);
  return axis < 0 ? null : quotient(stride, productOf(shape.slice(axis + 1)));
}

const reshaped = (c: InferContext, shape: Dim[]): Inferred[] => [
  {
    type: c.input(0).type,
    shape,
    known: c.input(0).known,
    inner: innerAfterReshape(c.input(0), shape, c.batch),
  },
];

const flatten: Infer = (c) => {
  const x = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", 1), x.shape.length);
  return reshaped(c, [productOf(x.shape.slice(0, axis)), productOf(x.shape.slice(axis))]);
};

const squeeze: Infer = (c) => {
  const x = c.input(0);
  const axes = required(c, "the axes", axesOf(c, 1, x.shape.length));
  const gone = (dim: Dim, axis: number) => (axes.length > 0 ? axes.includes(axis) : dim === 1);
  return reshaped(
    c,
    x.shape.filter((dim, axis) => !gone(dim, axis)),
  );
};

const unsqueeze: Infer = (c) => {
  const x = c.input(0);
  const rank = x.shape.length + (c.constant(1) ?? integers(c.node, "axes") ?? []).length;
  const axes = required(c, "the axes", axesOf(c, 1, rank));
  const rest = [...x.shape];
  return reshaped(
    c,
    Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : (rest.shift() ?? 1))),
  );
};

export const permutation = (node: Node, rank: number): number[] =>
  integers(node, "perm") ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);

const transpose: Infer = (c) => {
  const x = c.input(0);
  const order = permutation(c.node, x.shape.length);
  return [
    {
      type: x.type,
      shape: order.map((axis) => x.shape[axis] ?? 1),
      known: foldTranspose(x, order),
      inner: x.batch?.inner ?? null,
    },
  ];
};

const concat: Infer = (c) => {
  const parts = present(c);
  const axis = normalAxis(integer(c.node, "axis", 0), c.input(0).shape.length);
  const shape = c
    .input(0)
    .shape.map((dim, a) =>
      a === axis
        ? parts.map((part) => part.shape[axis] ?? 1).reduce(plus)
        : (broadcast(parts.map((part) => [part.shape[a] ?? 1]))[0] ?? dim),
    );
  const known = shape.length === 1 && parts.every((part) => part.known) ? parts.flatMap((p) => p.known ?? []) : null;
  return [{ type: c.input(0).type, shape, known, mixes: parts.some((part) => overBatch(part, [axis])) }];
};

/** Extents of the parts of a Split. */
export function splitSizes(c: Pick<InferContext, "node" | "constant">, total: Dim): Dim[] {
  const given = c.node.inputs[1] ? c.constant(1) : null;
  if (given) return given;
  const count = c.node.outputs.length;
  if (typeof total !== "number") return c.node.outputs.map(() => floorQuotient(total, count));
  const size = Math.ceil(total / count);
  return c.node.outputs.map((_, part) => Math.min(size, total - part * size));
}

const split: Infer = (c) => {
  const x = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", 0), x.shape.length);
  return splitSizes(c, x.shape[axis] ?? 1).map((size) => ({
    type: x.type,
    shape: x.shape.map((dim, a) => (a === axis ? size : dim)),
    mixes: overBatch(x, [axis]),
  }));
};

/** Start, end and step of each sliced axis; null if they are not constant. */
export function sliceOf(c: Pick<InferContext, "node" | "constant">, rank: number) {
  const starts = c.constant(1);
  const ends = c.constant(2);
  if (!starts || !ends) return null;
  const axes = c.node.inputs[3] ? c.constant(3) : starts.map((_, index) => index);
  const steps = c.node.inputs[4] ? c.constant(4) : starts.map(() => 1);
  if (!axes || !steps) return null;
  return starts.map((start, index) => ({
    axis: normalAxis(Number(axes[index]), rank),
    start,
    end: ends[index] ?? 0,
    step: Number(steps[index]),
  }));
}

/** How many entries start … end with the step hold, of an axis of the given extent; null if that cannot be told. */
export function sliceLength(extent: Dim, start: Dim, end: Dim, step: number): Dim | null {
  const whole = typeof end === "number" && end >= 2 ** 31 - 1;
  if (start === 0 && step === 1 && (whole || end === extent)) return extent;
  if (typeof extent === "number" && typeof start === "number" && typeof end === "number") {
    const clamp = (at: number, low: number, high: number) => Math.min(Math.max(at < 0 ? at + extent : at, low), high);
    if (step > 0) return Math.max(Math.ceil((clamp(end, 0, extent) - clamp(start, 0, extent)) / step), 0);
    const stop = end < -extent ? -1 : clamp(end, -1, extent - 1);
    return Math.max(Math.ceil((stop - clamp(start, 0, extent - 1)) / step), 0);
  }
  if (step !== 1) return null;
  const from = typeof start === "number" && start < 0 ? plus(extent, start) : start;
  const to = whole ? extent : typeof end === "number" && end < 0 ? plus(extent, end) : end;
  return minus(to, from);
}

const slice: Infer = (c) => {
  const x = c.input(0);
  const parts = sliceOf(c, x.shape.length);
  if (!parts) {
    const axes = c.node.inputs[3] ? c.constant(3) : c.input(1).shape.map((_, index) => index);
    const cut = (axes ?? x.shape.map((_, axis) => axis)).map((axis) => normalAxis(Number(axis), x.shape.length));
    return [
      { type: x.type, shape: x.shape.map((d, a) => (cut.includes(a) ? c.unknown() : d)), mixes: overBatch(x, cut) },
    ];
  }
  const shape = [...x.shape];
  let mixes = false;
  for (const { axis, start, end, step } of parts) {
    const extent = shape[axis] ?? 1;
    shape[axis] = sliceLength(extent, start, end, step) ?? c.unknown();
    if (shape[axis] !== extent && overBatch(x, [axis])) mixes = true;
  }
  return [{ type: x.type, shape, known: foldSlice(x, parts), mixes }];
};

const gather: Infer = (c) => {
  const [x, indices] = [c.input(0), c.input(1)];
  const axis = normalAxis(integer(c.node, "axis", 0), x.shape.length);
  const picked = indices.known?.map((index) => (typeof index === "number" ? x.known?.at(index) : undefined));
  return [
    {
      type: x.type,
      shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)],
      known: x.shape.length === 1 && picked?.every((p) => p !== undefined) ? picked : null,
      mixes: overBatch(x, [axis]),
    },
  ];
};

const gatherElements: Infer = (c) => [{ type: c.input(0).type, shape: c.input(1).shape }];

const gatherND: Infer = (c) => {
  const [x, indices] = [c.input(0), c.input(1)];
  const shared = integer(c.node, "batch_dims", 0);
  const depth = Number(indices.shape.at(-1));
  return [
    {
      type: x.type,
      shape: [...x.shape.slice(0, shared), ...indices.shape.slice(shared, -1), ...x.shape.slice(shared + depth)],
    },
  ];
};

const expand: Infer = (c) => {
  const x = c.input(0);
  const target = c.constant(1);
  const rank = c.input(1).shape[0];
  const shape = target ?? Array.from({ length: Number(rank) }, () => c.unknown());
  const filled = broadcast([x.shape, shape]);
  return [
    {
      type: x.type,
      shape: filled,
      known: x.known?.length === 1 && filled.length < 2 ? filledWith(x.known[0], filled) : null,
    },
  ];
};

function filledWith(entry: Dim | undefined, shape: readonly Dim[]): Dim[] | null {
  const count = productOf(shape);
  return typeof count === "number" && count <= 64 && entry !== undefined
    ? Array.from({ length: count }, () => entry)
    : null;
}

const tile: Infer = (c) => {
  const x = c.input(0);
  const repeats = c.constant(1);
  const shape = x.shape.map((dim, axis) => (repeats ? times(dim, repeats[axis] ?? 1) : c.unknown()));
  return [{ type: x.type, shape }];
};

const pad: Infer = (c) => {
  const x = c.input(0);
  const pads = c.constant(1);
  const axes = c.node.inputs[3] ? c.constant(3)?.map(Number) : x.shape.map((_, axis) => axis);
  const shape = [...x.shape];
  let mixes = false;
  (axes ?? []).forEach((named, index) => {
    const axis = normalAxis(named, x.shape.length);
    const [begin, end] = [pads?.[index], pads?.[index + (axes ?? []).length]];
    const was = shape[axis] ?? 1;
    shape[axis] = begin === undefined || end === undefined ? c.unknown() : plus(plus(was, begin), end);
    if (shape[axis] !== was && overBatch(x, [axis])) mixes = true;
  });
  return [{ type: x.type, shape, mixes }];
};

const constantOfShape: Infer = (c) => {
  const target = c.constant(0);
  const shape = target ?? Array.from({ length: Number(c.input(0).shape[0]) }, () => c.unknown());
  const value = c.node.attributes.value;
  const tensor = typeof value === "object" && "tensor" in value ? value.tensor : null;
  const type = tensor?.dataType ?? ELEMENT.float32;
  const integral = type === ELEMENT.int64 || type === ELEMENT.int32 || type === ELEMENT.bool;
  return [{ type, shape, known: tensor && integral ? filledWith(numbersOf(tensor)[0], shape) : null }];
};

const range: Infer = (c) => {
  const [start, limit, delta] = [c.constant(0)?.[0], c.constant(1)?.[0], c.constant(2)?.[0]];
  const whole = typeof start === "number" && typeof limit === "number" && typeof delta === "number";
  const count = whole ? Math.max(Math.ceil((limit - start) / delta), 0) : null;
  const extent =
    count ?? (start !== undefined && limit !== undefined && delta === 1 ? minus(limit, start) : c.unknown());
  const known =
    whole && count !== null && count <= 4096 ? Array.from({ length: count }, (_, k) => start + k * delta) : null;
  return [{ type: c.input(0).type, shape: [extent], known }];
};

const cast: Infer = (c) => {
  const type = c.node.op === "CastLike" ? c.input(1).type : integer(c.node, "to", ELEMENT.float32);
  return [{ type, shape: c.input(0).shape, known: c.input(0).known, inner: c.input(0).batch?.inner ?? null }];
};

const shapeOf: Infer = (c) => {
  const { shape } = c.input(0);
  const cut = shape.slice(integer(c.node, "start", 0), integer(c.node, "end", shape.length));
  return [{ type: ELEMENT.int64, shape: [cut.length], known: cut }];
};

const size: Infer = (c) => [{ type: ELEMENT.int64, shape: [], known: [productOf(c.input(0).shape)] }];

const oneHot: Infer = (c) => {
  const indices = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", -1), indices.shape.length + 1);
  const depth = c.constant(1)?.[0] ?? c.unknown();
  return [{ type: c.input(2).type, shape: [...indices.shape.slice(0, axis), depth, ...indices.shape.slice(axis)] }];
};

/** Depth to space for `up`, else space to depth. */
const blocks =
  (up: boolean): Infer =>
  (c) => {
    const s = integer(c.node, "blocksize", 1);
    const [batch = 1, channels = 1, ...sizes] = c.input(0).shape;
    const [grow, shrink] = [(dim: Dim, by: number) => times(dim, by), (dim: Dim, by: number) => floorQuotient(dim, by)];
    const spatial = sizes.map((size) => (up ? grow : shrink)(size, s));
    return [{ type: c.input(0).type, shape: [batch, (up ? shrink : grow)(channels, s * s), ...spatial] }];
  };

const resize: Infer = (c) => {
  const x = c.input(0);
  const sizes = c.node.inputs[3] ? c.constant(3) : null;
  const scales = c.node.inputs[2] ? c.constant(2) : null;
  const axes = integers(c.node, "axes")?.map((axis) => normalAxis(axis, x.shape.length)) ?? x.shape.map((_, a) => a);
  const shape = x.shape.map((dim, axis) => {
    const at = axes.indexOf(axis);
    if (at < 0) return dim;
    if (sizes) return sizes[at] ?? dim;
    const scale = Number(scales?.[at] ?? Number.NaN);
    if (typeof dim === "number" && !Number.isNaN(scale)) return Math.floor(dim * scale);
    return scale === 1 ? dim : Number.isInteger(scale) ? times(dim, scale) : c.unknown();
  });
  return [{ type: x.type, shape }];
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

const forEach = (operators: string, infer: Infer): [string, Infer][] => operators.split(" ").map((op) => [op, infer]);

const TABLE = new Map<string, Infer>([
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
  ["Conv", convolution],
  ["ConvTranspose", transposedConvolution],
  ...forEach("MaxPool AveragePool LpPool", pooling),
  ...forEach("GlobalAveragePool GlobalMaxPool", globalPooling),
  ["MaxUnpool", (c) => [{ type: c.input(0).type, shape: c.constant(2) ?? c.input(0).shape.map(() => c.unknown()) }]],
  ["MatMul", matmul],
  ["Gemm", gemm],
  ["Einsum", einsum],
  ["Reshape", reshape],
  ["Flatten", flatten],
  ["Squeeze", squeeze],
  ["Unsqueeze", unsqueeze],
  ["Transpose", transpose],
  ["Concat", concat],
  ["Split", split],
  ["Slice", slice],
  ["Gather", gather],
  ["GatherElements", gatherElements],
  ["GatherND", gatherND],
  ["Expand", expand],
  ["Tile", tile],
  ["Pad", pad],
  ["ConstantOfShape", constantOfShape],
  ["Range", range],
  ...forEach("Cast CastLike", cast),
  ["Shape", shapeOf],
  ["Size", size],
  ["OneHot", oneHot],
  ["DepthToSpace", blocks(true)],
  ["SpaceToDepth", blocks(false)],
  ["Resize", resize],
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
]);

/** Operators whose shapes are understood. */
export const understood = (op: string): boolean => TABLE.has(op);

/** Throws, naming node and operator, if the operator is not understood or an input that must be constant is not. */
export function infer(context: InferContext): Inferred[] {
  const rule = TABLE.get(context.node.op);
  if (!rule || context.node.domain !== "") {
    const op = context.node.domain ? `${context.node.domain}.${context.node.op}` : context.node.op;
    throw new Error(
      `${where(context.node)}: no rule for operator ${op}; supported: ${[...TABLE.keys()].sort().join(", ")}`,
    );
  }
  return rule(context);
}
