/** Gradients of pooling and resizing. */
import { type Dim, minus, plus, productOf, times } from "../../onnx/dims.ts";
import { ELEMENT, integer, integers, type Value, where } from "../../onnx/graph.ts";
import { windowOf } from "../../onnx/infer/products.ts";
import type { Rule, RuleContext } from "../rule.ts";
import { transposedWindows } from "./product.ts";
import { interpolation } from "./resize.ts";
import { alongAxis } from "./shape.ts";

/**
 * Each window's cotangent goes to its first maximum, as in PyTorch: offset by offset, an entry equal to the maximum takes what is
 * left of it. The pooling's own report of positions is missing from some of onnxruntime's providers.
 */
const maxPool: Rule = (c) => [
  () => {
    const { b } = c;
    const x = c.x(0);
    const y = c.y[0] ?? c.d;
    const sizes = x.shape.slice(2);
    const { kernel, strides, dilations } = windowOf(c.node, sizes, integers(c.node, "kernel_shape") ?? []);
    const out = c.d.shape.slice(2);
    const windows = shiftedWindows(c);
    let left = c.d;
    const given = windows.map((entries, tap) => {
      // Some offset holds the maximum: what the others have not taken is the last one's.
      if (tap === windows.length - 1) return left;
      const taken = b.where(b.op("Equal", [entries, y]), left, b.scalar(0, left));
      left = b.sub(left, taken);
      return taken;
    });
    const tiles = kernel.every(
      (extent, k) => strides[k] === extent && dilations[k] === 1 && times(out[k] ?? 1, extent) === sizes[k],
    );
    if (tiles) return interleaved(c, given, kernel);
    const [batch = 1, channels = 1] = x.shape;
    const count = windows.length;
    const eye = Array.from({ length: count * count }, (_, at) => Number(at % count === Math.floor(at / count)));
    const placed = b.cast(b.constant(ELEMENT.float32, [count, 1, ...kernel], eye), c.d.type);
    const stacked = b.concat(
      given.map((part) => b.reshape(part, [times(batch, channels), 1, ...out])),
      1,
    );
    return b.reshape(transposedWindows(c, stacked, placed, sizes, 1), x.shape);
  },
];

/** Of each kernel offset, the entries that it sees: [B, C, …out]. Outside the image is −∞. */
function shiftedWindows(c: RuleContext): Value[] {
  const { b } = c;
  const x = c.x(0);
  const sizes = x.shape.slice(2);
  const { kernel, strides, dilations, pads } = windowOf(c.node, sizes, integers(c.node, "kernel_shape") ?? []);
  const out = c.d.shape.slice(2);
  const around = kernel.map((extent, k) => {
    const [before, end] = pads[k] ?? [0, 0];
    const reach = plus(times(minus(out[k] ?? 1, 1), strides[k] ?? 1), (dilations[k] ?? 1) * (extent - 1) + 1);
    const short = minus(minus(reach, sizes[k] ?? 1), before);
    return { axis: k + 2, before, after: typeof short === "number" ? Math.max(short, 0) : end };
  });
  const image = b.pad(x, around, Number.NEGATIVE_INFINITY);
  return Array.from({ length: productNumber(kernel) }, (_, tap) => {
    const cuts = kernel.map((extent, k) => {
      const index = Math.floor(tap / productNumber(kernel.slice(k + 1))) % extent;
      const [start, step] = [index * (dilations[k] ?? 1), strides[k] ?? 1];
      return { axis: k + 2, start, end: plus(times(minus(out[k] ?? 1, 1), step), start + 1), step };
    });
    return b.slice(image, cuts);
  });
}

/** Windows that tile the image, one value an offset, put together: axis by axis from the last, [.., o] × k → [.., o·k]. */
function interleaved(c: RuleContext, offsets: readonly Value[], kernel: readonly number[]): Value {
  const { b } = c;
  return (
    kernel.reduceRight<Value[]>(
      (parts, extent, k) => {
        const axis = k + 2;
        return Array.from({ length: parts.length / extent }, (_, group) => {
          const members = parts.slice(group * extent, (group + 1) * extent);
          const [shape = []] = members.map((part) => part.shape);
          const spaced = [...shape.slice(0, axis + 1), 1, ...shape.slice(axis + 1)];
          const joined = b.concat(
            members.map((part) => b.reshape(part, spaced)),
            axis + 1,
          );
          return b.reshape(joined, [
            ...shape.slice(0, axis),
            times(shape[axis] ?? 1, extent),
            ...shape.slice(axis + 1),
          ]);
        });
      },
      [...offsets],
    )[0] ?? c.d
  );
}

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
