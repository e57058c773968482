/** Gradients of pooling and resizing. */
import { type Dim, productOf } from "../../onnx/dims.ts";
import { integer, integers, type Value, where } from "../../onnx/graph.ts";
import { windowOf } from "../../onnx/infer.ts";
import type { Rule, RuleContext } from "../rule.ts";
import { transposedWindows } from "./product.ts";
import { interpolation } from "./resize.ts";
import { alongAxis } from "./shape.ts";

/**
 * Each window's cotangent goes to its first maximum, whose flat position the pooling reports as its second output. Windows that
 * do not overlap write each entry once, which MaxUnpool does; others add.
 */
const maxPool: Rule = (c) => [
  () => {
    const { b } = c;
    const x = c.x(0);
    const indices = c.y[1];
    if (!indices)
      throw new Error(`${where(c.node)}: expected the positions of the maxima as a second output, got none`);
    const { kernel, strides, dilations } = windowOf(c.node, x.shape.slice(2), integers(c.node, "kernel_shape") ?? []);
    const apart = kernel.every((extent, k) => (strides[k] ?? 1) >= extent && dilations[k] === 1);
    if (apart && kernel.length === 2) {
      const unpooled = b.op("MaxUnpool", [c.d, indices, b.shape(x.shape)], { kernel_shape: kernel, strides });
      return b.reshape(unpooled, x.shape);
    }
    const zeros = b.filled(0, [productOf(x.shape)], c.d);
    const flat = (v: Value) => b.reshape(v, [productOf(v.shape)]);
    const sums = b.op("ScatterElements", [zeros, flat(indices), flat(c.d)], { axis: 0, reduction: "add" });
    return b.reshape(sums, x.shape);
  },
];

/** How many entries each window averages: [out…], a constant. */
function windowCounts(c: RuleContext, sizes: readonly Dim[]): { shape: number[]; counts: number[] } {
  const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, integers(c.node, "kernel_shape") ?? []);
  const include = integer(c.node, "count_include_pad", 0) === 1;
  const perAxis = kernel.map((extent, k) => {
    const [size, out] = [sizes[k], c.d.shape[k + 2]];
    const [begin, end] = (pads[k] ?? [0, 0]).map(Number);
    if (typeof size !== "number" || typeof out !== "number") {
      if (begin === 0 && end === 0 && integer(c.node, "ceil_mode", 0) === 0) return [extent];
      throw new Error(
        `${where(c.node)}: expected a fixed image size with padded average pooling, got ${size}; export with a fixed size`,
      );
    }
    return Array.from({ length: out }, (_, position) => {
      const start = position * (strides[k] ?? 1) - (begin ?? 0);
      const taps = Array.from({ length: extent }, (_, tap) => start + tap * (dilations[k] ?? 1));
      return taps.filter((at) => (include ? at < size + (end ?? 0) : at >= 0 && at < size)).length;
    });
  });
  const counts = perAxis.reduce((all, axis) => all.flatMap((p) => axis.map((q) => p * q)), [1]);
  return { shape: perAxis.map((axis) => axis.length), counts };
}

/** Each window's cotangent ÷ its count goes to all of its entries: a transposed convolution with ones, channel by channel. */
const averagePool: Rule = (c) => [
  () => {
    const { b } = c;
    const x = c.x(0);
    const sizes = x.shape.slice(2);
    const { shape, counts } = windowCounts(c, sizes);
    const each = b.mul(
      c.d,
      b.cast(
        b.constant(
          1,
          shape,
          counts.map((count) => 1 / count),
        ),
        c.d.type,
      ),
    );
    const kernel = integers(c.node, "kernel_shape") ?? [];
    const ones = b.cast(b.constant(1, [1, 1, ...kernel], new Array(productNumber(kernel)).fill(1)), c.d.type);
    const single = b.reshape(each, [productOf(c.d.shape.slice(0, 2)), 1, ...c.d.shape.slice(2)]);
    return b.reshape(transposedWindows(c, single, ones, sizes, 1), x.shape);
  },
];

const productNumber = (extents: readonly number[]): number => extents.reduce((a, b) => a * b, 1);

const spatial = (c: RuleContext): number[] => c.x(0).shape.flatMap((_, axis) => (axis < 2 ? [] : [axis]));

const globalAverage: Rule = (c) => [
  () => {
    const { b } = c;
    const count = productOf(c.x(0).shape.slice(2));
    const each = typeof count === "number" ? b.scaled(c.d, 1 / count) : b.div(c.d, b.cast(b.extent(count), c.d.type));
    return b.op("Expand", [each, b.shape(c.x(0).shape)]);
  },
];

const globalMax: Rule = (c) => [
  () => {
    const { b } = c;
    const hits = b.cast(b.op("Equal", [c.x(0), c.y[0] ?? c.d]), c.d.type);
    return b.mul(hits, b.div(c.d, b.sum(hits, spatial(c), true)));
  },
];

/** Along each resized axis y = M·x, so x̄ = Mᵀ·ȳ. */
const resize: Rule = (c) => [
  () => {
    const { b } = c;
    return c.x(0).shape.reduce<Value>((d, inSize, axis) => {
      const outSize = d.shape[axis] ?? 1;
      if (outSize === inSize) return d;
      if (typeof inSize !== "number" || typeof outSize !== "number") {
        throw new Error(
          `${where(c.node)}: expected fixed sizes, got ${inSize} to ${outSize}; export with a fixed image size`,
        );
      }
      return alongAxis(c, d, axis, b.constant(1, [outSize, inSize], interpolation(c, axis, inSize, outSize)));
    }, c.d);
  },
  null,
  null,
  null,
];

export const POOLING: Record<string, Rule> = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: globalAverage,
  GlobalMaxPool: globalMax,
  Resize: resize,
};
