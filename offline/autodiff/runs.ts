/**
 * Kept entries of a convolution's gradient, their rows gathered: entry (o, c, k) is Σ over positions of δ[o] · image[c] at the
 * positions under the kernel offset k. Examples lie innermost, so that a run of positions of all examples is contiguous; the
 * image is laid out once for each kernel column, so that a shift along every other axis is only another row to gather.
 */
import type { Builder } from "../onnx/builder.ts";
import { productOf } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { numberOf } from "./per-example.ts";
import type { Taps } from "./taps.ts";

/** An entry of a kernel: its offset, and its channels of the padded and of the plain side. */
export interface Entry {
  offset: number;
  pair: [number, number];
}

/** [B, …] → [rows, width, B]. */
function examplesLast(b: Builder, v: Value, rows: number, width: number): Value {
  const [batch = 1] = v.shape;
  const flat = b.reshape(v, [batch, rows * width]);
  return b.reshape(b.transpose(flat, [1, 0]), [rows, width, batch]);
}

/** The rows whose product sums to entries, for an image and an output of the given extents: each [entries, positions, B]. */
export function runs(b: Builder, t: Taps, image: number[], out: number[]) {
  const [batch = 1, channels = 1] = t.padded.shape;
  const last = out.length - 1;
  const extents = image.map((extent, k) => extent + (t.pads[k]?.[0] ?? 0) + (t.pads[k]?.[1] ?? 0));
  const [width = 1, columns = 1, step = 1, dilation = 1] = [out, t.kernel, t.strides, t.dilations].map((s) => s[last]);
  const lines = numberOf(extents.slice(0, last));
  const spots = numberOf(out);
  const size = numberOf(t.kernel);

  /** [C·lines·columns, width·B]: each line of the image as each kernel column sees it. */
  function unrolled(): Value {
    const turned = examplesLast(b, t.padded, Number(channels), numberOf(image));
    const sides = t.pads.map(([before, after], k) => ({ axis: k + 1, before, after }));
    const padded = b.pad(b.reshape(turned, [channels, ...image, batch]), sides);
    const view = b.reshape(padded, [Number(channels) * lines, extents[last] ?? 1, batch]);
    const seen = Array.from({ length: columns * width }, (_, at) => {
      return Math.floor(at / width) * dilation + (at % width) * step;
    });
    const shifted = seen.every((x, at) => x === at) && seen.length === extents[last] ? view : b.gather(view, seen, 1);
    return b.reshape(shifted, [Number(channels) * lines * columns, productOf([width, batch])]);
  }

  /** By kernel offset, the rows of `unrolled` under it, less its channel's first: [offsets, positions ÷ width]. */
  const table = Array.from({ length: size }, (_, offset) => {
    const index = t.kernel.map((extent, k) => Math.floor(offset / numberOf(t.kernel.slice(k + 1))) % extent);
    return Array.from({ length: spots / width }, (_, run) => {
      const line = out.slice(0, last).reduce((sum, count, k) => {
        const at = Math.floor(run / numberOf(out.slice(k + 1, last))) % count;
        return sum * (extents[k] ?? 1) + at * (t.strides[k] ?? 1) + (index[k] ?? 0) * (t.dilations[k] ?? 1);
      }, 0);
      return line * columns + (index[last] ?? 0);
    });
  });

  return {
    image: (entries: readonly Entry[]): Value => {
      // A table and a sum, which the runtime folds when it loads, keep the file a hundred times smaller than the rows' list.
      const under = b.constant(ELEMENT.int64, [size, spots / width], table.flat());
      const first = entries.map(({ pair: [channel] }) => channel * lines * columns);
      const rows = b.add(
        b.gather(
          under,
          entries.map(({ offset }) => offset),
        ),
        b.constant(ELEMENT.int64, [entries.length, 1], first),
      );
      return b.reshape(b.op("Gather", [unrolled(), rows], { axis: 0 }), [entries.length, spots, batch]);
    },
    delta: (entries: readonly Entry[]): Value =>
      b.gather(
        examplesLast(b, t.plain, Number(t.plain.shape[1]), spots),
        entries.map(({ pair: [, plain] }) => plain),
      ),
  };
}
