/** Operators that move entries about: reshaping, slicing, joining, indexing, padding, resizing. */
import { type Dim, floorQuotient, mentions, minus, plus, productOf, quotient, times } from "../dims.ts";
import { integer, integers, type Node, type Value } from "../graph.ts";
import { filledWith, foldSlice, foldTranspose } from "../known.ts";
import {
  axesOf,
  broadcast,
  type Infer,
  type InferContext,
  type Inferred,
  normalAxis,
  overBatch,
  present,
  required,
} from "./context.ts";

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

export const MOVES: [string, Infer][] = [
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
  ["DepthToSpace", blocks(true)],
  ["SpaceToDepth", blocks(false)],
  ["Resize", resize],
];
