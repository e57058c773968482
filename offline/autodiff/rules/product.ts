/** Gradients of MatMul, Gemm, Einsum and the convolutions with respect to activations. */
import type { Dim } from "../../onnx/dims.ts";
import { integer, real, type Value, where } from "../../onnx/graph.ts";
import { einsumLabels, windowOf } from "../../onnx/infer/products.ts";
import type { Rule, RuleContext } from "../rule.ts";

function swapped(c: RuleContext, v: Value): Value {
  const order = v.shape.map((_, axis) => axis);
  const last = order.length - 1;
  return c.b.transpose(v, [...order.slice(0, -2), last, last - 1]);
}

/** Y = A·B: Ā = Ȳ·Bᵀ, B̄ = Aᵀ·Ȳ. Vectors are taken as one row (A) or one column (B). */
const matmul: Rule = (c) => {
  const { b } = c;
  const [left, right] = [c.x(0), c.x(1)];
  const row = left.shape.length === 1;
  const column = right.shape.length === 1;
  const a = () => (row ? b.reshape(left, [1, ...left.shape]) : left);
  const w = () => (column ? b.reshape(right, [...right.shape, 1]) : right);
  const d = () => {
    const shape = [...c.d.shape];
    if (column) shape.push(1);
    if (row) shape.splice(shape.length - 1, 0, 1);
    return b.reshape(c.d, shape);
  };
  return [
    () => {
      const g = b.op("MatMul", [d(), swapped(c, w())]);
      return row ? b.reshape(g, [...g.shape.slice(0, -2), ...g.shape.slice(-1)]) : g;
    },
    () => {
      const g = b.op("MatMul", [swapped(c, a()), d()]);
      return column ? b.reshape(g, g.shape.slice(0, -1)) : g;
    },
  ];
};

/** Y = α·A′·B′ + β·C, where A′ and B′ may be transposed. */
const gemm: Rule = (c) => {
  const { b } = c;
  const [ta, tb] = [integer(c.node, "transA", 0), integer(c.node, "transB", 0)];
  const alpha = { float: real(c.node, "alpha", 1) };
  const times = (p: Value, q: Value, transA: number, transB: number) => b.op("Gemm", [p, q], { alpha, transA, transB });
  return [
    () => (ta ? times(c.x(1), c.d, tb, 1) : times(c.d, c.x(1), 0, 1 - tb)),
    () => (tb ? times(c.d, c.x(0), 1, ta) : times(c.x(0), c.d, 1 - ta, 0)),
    () => b.scaled(c.d, real(c.node, "beta", 1)),
  ];
};

/** The gradient of an operand is the Einsum of the cotangent and the other operand onto the operand's labels. */
const einsum: Rule = (c) => {
  const { operands, result } = einsumLabels(c.node);
  return operands.map((labels, index) => () => {
    const others = operands.flatMap((other, position) => (position === index ? [] : [{ other, position }]));
    const known = new Set([result, ...others.map(({ other }) => other)].join(""));
    const kept = [...labels].filter((label) => known.has(label)).join("");
    if (new Set(labels).size !== labels.length) {
      throw new Error(
        `${where(c.node)}: expected each label once in an operand, got ${labels}; export without the diagonal`,
      );
    }
    const equation = `${[result, ...others.map(({ other }) => other)].join(",")}->${kept}`;
    const g = c.b.op("Einsum", [c.d, ...others.map(({ position }) => c.x(position))], { equation });
    // A label that the operand alone has was summed over.
    const shape = c.x(index).shape;
    const spaced = c.b.reshape(
      g,
      shape.map((dim, axis) => (kept.includes(labels[axis] ?? "") ? dim : 1)),
    );
    return c.b.op("Expand", [spaced, c.b.shape(shape)]);
  });
};

/**
 * Adds windows back to where they were taken: the transpose of a convolution with `kernel` ([from, to/group, …]), giving images
 * of `sizes`.
 */
export function transposedWindows(
  c: Pick<RuleContext, "b" | "node">,
  d: Value,
  kernel: Value,
  sizes: readonly Dim[],
  group: number,
): Value {
  const { b } = c;
  const { kernel: extent, strides, dilations, pads } = windowOf(c.node, sizes, kernel.shape.slice(2));
  const fixed = pads.flat().map(Number);
  const [begins, ends] = [fixed.filter((_, i) => i % 2 === 0), fixed.filter((_, i) => i % 2 === 1)];
  // What the strides left over at the end of each axis.
  const rest = sizes.map((size, k) => {
    if (strides[k] === 1) return 0;
    const covered = (Number(d.shape[k + 2]) - 1) * (strides[k] ?? 1) + (dilations[k] ?? 1) * ((extent[k] ?? 1) - 1) + 1;
    return typeof size === "number" && !Number.isNaN(covered) ? size + (begins[k] ?? 0) + (ends[k] ?? 0) - covered : 0;
  });
  const result = b.op("ConvTranspose", [d, kernel], {
    strides,
    dilations,
    group,
    kernel_shape: extent,
    pads: [...begins, ...ends.map((end, k) => Math.max(end - (rest[k] ?? 0), 0))],
    output_padding: rest.map((more, k) => Math.max(more - (ends[k] ?? 0), 0)),
  });
  const short = sizes.flatMap((size, k) => (result.shape[k + 2] === size ? [] : [k + 2]));
  if (short.length === 0) return result;
  // An open image size: fill up to it while running.
  const around = short.map((axis) => {
    const got = b.op("Shape", [result], { start: axis, end: axis + 1 });
    return { axis, before: 0, after: b.sub(b.extent(sizes[axis - 2] ?? 1), got) };
  });
  const filled = b.pad(result, around);
  return b.reshape(filled, [...result.shape.slice(0, 2), ...sizes]);
}

/** Of the image: the transposed convolution. With stride 1 that is a convolution with the kernel turned round, which runs faster. */
const conv: Rule = (c) => [
  () => {
    const { b } = c;
    const [x, w] = [c.x(0), c.x(1)];
    const group = integer(c.node, "group", 1);
    const sizes = x.shape.slice(2);
    const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, w.shape.slice(2));
    const reach = kernel.map((extent, k) => (dilations[k] ?? 1) * (extent - 1));
    const begins = pads.map(([begin], k) => (reach[k] ?? 0) - Number(begin));
    const ends = pads.map(([, end], k) => (reach[k] ?? 0) - Number(end));
    const plain =
      group === 1 && strides.every((stride) => stride === 1) && [...begins, ...ends].every((pad) => pad >= 0);
    if (!plain) return transposedWindows(c, c.d, w, sizes, group);
    const turned = b.slice(
      w,
      kernel.flatMap((extent, k) => (extent === 1 ? [] : [{ axis: k + 2, start: -1, end: -(2 ** 31), step: -1 }])),
    );
    const swappedChannels = b.transpose(turned, [1, 0, ...kernel.map((_, k) => k + 2)]);
    return b.op("Conv", [c.d, swappedChannels], {
      pads: [...begins, ...ends],
      dilations,
      kernel_shape: kernel,
      strides,
    });
  },
];

const convTranspose: Rule = (c) => [
  () => {
    const { strides, dilations, pads, kernel } = windowOf(c.node, c.d.shape.slice(2), c.x(1).shape.slice(2));
    const fixed = [...pads.map(([begin]) => Number(begin)), ...pads.map(([, end]) => Number(end))];
    const group = integer(c.node, "group", 1);
    return c.b.op("Conv", [c.d, c.x(1)], { strides, dilations, pads: fixed, kernel_shape: kernel, group });
  },
];

export const PRODUCT: Record<string, Rule> = {
  MatMul: matmul,
  Gemm: gemm,
  Einsum: einsum,
  Conv: conv,
  ConvTranspose: convTranspose,
};
