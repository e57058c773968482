/** Gradients of pooling and resizing. */
import { type Dim, minus, plus, productOf, times } from "../../onnx/dims.ts";
import { ELEMENT, integer, integers, type Value, where } from "../../onnx/graph.ts";
import { windowOf } from "../../onnx/infer.ts";
import type { Rule, RuleContext } from "../rule.ts";
import { transposedWindows } from "./product.ts";
import { interpolation } from "./resize.ts";
import { alongAxis } from "./shape.ts";

/**
 * Each window's cotangent goes to its first maximum, as in PyTorch. The windows' entries are laid side by side, [B, C, K, …out], so
 * that ArgMax finds it: the pooling's own report of positions is missing from some of onnxruntime's providers.
 */
const maxPool: Rule = (c) => [
  () => {
    const { b } = c;
    const x = c.x(0);
    const sizes = x.shape.slice(2);
    const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, integers(c.node, "kernel_shape") ?? []);
    const out = c.d.shape.slice(2);
    const [batch = 1, channels = 1] = x.shape;
    const count = productNumber(kernel);
    const axes = kernel.map((_, k) => k);
    const tiles = kernel.every(
      (extent, k) => strides[k] === extent && dilations[k] === 1 && times(out[k] ?? 1, extent) === sizes[k],
    );
    // Tiles: [B, C, o₁, k₁, o₂, k₂, …] ⇄ [B, C, k₁, k₂, …, o₁, o₂, …].
    const apart = [0, 1, ...axes.map((k) => 3 + 2 * k), ...axes.map((k) => 2 + 2 * k)];
    const cut = [batch, channels, ...axes.flatMap((k) => [out[k] ?? 1, kernel[k] ?? 1])];
    const entries = tiles ? b.transpose(b.reshape(x, cut), apart) : b.concat(shiftedWindows(), 2);
    const first = b.op("ArgMax", [b.reshape(entries, [batch, channels, count, ...out])], { axis: 2, keepdims: 1 });
    const order = b.constant(
      ELEMENT.int64,
      [count, ...out.map(() => 1)],
      Array.from({ length: count }, (_, tap) => tap),
    );
    const d = b.reshape(c.d, [batch, channels, 1, ...out]);
    const given = b.where(b.op("Equal", [first, order]), d, b.scalar(0, d));
    if (tiles) {
      const back = apart.map((_, axis) => apart.indexOf(axis));
      return b.reshape(b.transpose(b.reshape(given, [batch, channels, ...kernel, ...out]), back), x.shape);
    }
    const eye = Array.from({ length: count * count }, (_, at) => Number(at % count === Math.floor(at / count)));
    const placed = b.cast(b.constant(ELEMENT.float32, [count, 1, ...kernel], eye), d.type);
    const single = b.reshape(given, [times(batch, channels), count, ...out]);
    return b.reshape(transposedWindows(c, single, placed, sizes, 1), x.shape);

    function shiftedWindows(): Value[] {
      const around = axes.map((k) => {
        const [before, end] = pads[k] ?? [0, 0];
        const reach = plus(
          times(minus(out[k] ?? 1, 1), strides[k] ?? 1),
          (dilations[k] ?? 1) * ((kernel[k] ?? 1) - 1) + 1,
        );
        const short = minus(minus(reach, sizes[k] ?? 1), before);
        return { axis: k + 2, before, after: typeof short === "number" ? Math.max(short, 0) : end };
      });
      const image = b.pad(x, around, Number.NEGATIVE_INFINITY);
      return Array.from({ length: count }, (_, tap) => {
        const cuts = axes.map((k) => {
          const index = Math.floor(tap / productNumber(kernel.slice(k + 1))) % (kernel[k] ?? 1);
          const [start, step] = [index * (dilations[k] ?? 1), strides[k] ?? 1];
          return { axis: k + 2, start, end: plus(times(minus(out[k] ?? 1, 1), step), start + 1), step };
        });
        return b.reshape(b.slice(image, cuts), [batch, channels, 1, ...out]);
      });
    }
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
