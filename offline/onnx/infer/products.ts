/** Matrix products, convolutions and pooling. */
import { type Dim, floorQuotient, minus, plus, times } from "../dims.ts";
import { ELEMENT, integer, integers, type Node, text, where } from "../graph.ts";
import { broadcast, forEach, type Infer, overBatch } from "./context.ts";

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

export const PRODUCTS: [string, Infer][] = [
  ["Conv", convolution],
  ["ConvTranspose", transposedConvolution],
  ...forEach("MaxPool AveragePool LpPool", pooling),
  ...forEach("GlobalAveragePool GlobalMaxPool", globalPooling),
  ["MatMul", matmul],
  ["Gemm", gemm],
  ["Einsum", einsum],
];
