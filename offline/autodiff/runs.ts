/**
 * Kept entries of a convolution's gradient, their rows gathered: entry (o, c, k) is Σ over positions of δ[o] · image[c] at the
 * positions under the kernel offset k. Examples lie innermost, so that a run of positions of all examples is contiguous. The
 * image is cut out once for each kernel column; a shift along every other axis is only another row to gather.
 *
 * Measured against this on a ResNet-9's 32 × 32 layer (64 → 128 channels, 16 images, 1,024 entries: 17 ms, and 5 ms a 16 × 16 layer), where
 * memory is the limit and not arithmetic: entries grouped by output channel, one matrix–vector product a group and example, lines
 * gathered with the examples outermost: 13 ms, but 7 to 8 ms a 16 × 16 layer, whose lines are then only 64 bytes; a group's
 * cotangents gathered once and broadcast: no change; channels outermost and one dot product an entry and example: no product
 * is written, but the cotangents have to be padded for each kernel row, and the processor time of a batch is the same to 1 %.
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

/** What computes entries for an image and an output of the given extents. */
export function runs(b: Builder, t: Taps, image: number[], out: number[]) {
  const [batch = 1, channels = 1] = t.padded.shape;
  const last = out.length - 1;
  const extents = image.map((extent, k) => extent + (t.pads[k]?.[0] ?? 0) + (t.pads[k]?.[1] ?? 0));
  const [width = 1, step = 1, dilation = 1] = [out, t.strides, t.dilations].map((s) => s[last]);
  const lines = numberOf(extents.slice(0, last));
  const spots = numberOf(out);
  const size = numberOf(t.kernel);

  const padded = (): Value => {
    const turned = examplesLast(b, t.padded, Number(channels), numberOf(image));
    const sides = t.pads.map(([before, after], k) => ({ axis: k + 1, before, after }));
    const around = b.pad(b.reshape(turned, [channels, ...image, batch]), sides);
    return b.reshape(around, [Number(channels) * lines, extents[last] ?? 1, batch]);
  };

  /** [C·lines, width·B]: each line of the image as a kernel column sees it. */
  function seenBy(column: number): Value {
    const [start, end] = [column * dilation, column * dilation + (width - 1) * step + 1];
    const whole = start === 0 && step === 1 && end === extents[last];
    const seen = b.slice(padded(), whole ? [] : [{ axis: 1, start, end, step }]);
    return b.reshape(seen, [Number(channels) * lines, productOf([width, batch])]);
  }

  /** By kernel offset, the lines under it, less its channel's first: [offsets, positions ÷ width]. */
  const table = Array.from({ length: size }, (_, offset) => {
    const index = t.kernel.map((extent, k) => Math.floor(offset / numberOf(t.kernel.slice(k + 1))) % extent);
    return Array.from({ length: spots / width }, (_, run) =>
      out.slice(0, last).reduce((sum, count, k) => {
        const at = Math.floor(run / numberOf(out.slice(k + 1, last))) % count;
        return sum * (extents[k] ?? 1) + at * (t.strides[k] ?? 1) + (index[k] ?? 0) * (t.dilations[k] ?? 1);
      }, 0),
    );
  });

  /** [entries, positions ÷ width, width·B]; the entries' kernel column is one and the same. */
  function imageOf(entries: readonly Entry[], column: number): Value {
    // A table and a sum, which the runtime folds when it loads, keep the file a hundred times smaller than the rows' list.
    const under = b.constant(ELEMENT.int64, [size, spots / width], table.flat());
    const first = entries.map(({ pair: [channel] }) => channel * lines);
    const offsets = entries.map(({ offset }) => offset);
    const rows = b.add(b.gather(under, offsets), b.constant(ELEMENT.int64, [entries.length, 1], first));
    return b.op("Gather", [seenBy(column), rows], { axis: 0 });
  }

  function deltaOf(entries: readonly Entry[]): Value {
    const rows = examplesLast(b, t.plain, Number(t.plain.shape[1]), spots);
    const runsOfRows = b.reshape(rows, [rows.shape[0] ?? 1, spots / width, productOf([width, batch])]);
    return b.gather(
      runsOfRows,
      entries.map(({ pair: [, plain] }) => plain),
    );
  }

  /** [entries, B], of entries in one kernel column. */
  return (entries: readonly Entry[], column: number): Value => {
    const products = b.mul(imageOf(entries, column), deltaOf(entries));
    // Lines first: a sum along a middle axis is slow when few examples lie behind it.
    const line = spots === width ? products : b.sum(products, [1]);
    return b.sum(b.reshape(line, [entries.length, width, batch]), [1]);
  };
}
