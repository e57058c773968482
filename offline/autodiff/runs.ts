/**
 * Kept entries of a convolution's gradient, their rows gathered: entry (o, c, k) is Σ over positions of δ[o] · image[c] at the
 * positions under the kernel offset k. The image is cut out once for each kernel column; a shift along every other axis is only
 * another line to gather. Two forms, both bound by memory and not by arithmetic:
 *
 * - `inColumn`: examples lie innermost, so that a line of all examples is contiguous; gathered, multiplied, summed.
 * - `byChannel`: examples lie outermost, entries of one output channel share its cotangents, and product and sum are one
 *   matrix–vector product for each channel and example: no product is written. For lines long enough to be copied one by one.
 *
 * Measured on a ResNet-9 (16 images, 1,024 entries a layer): the 32 × 32 layer 17 ms in columns and 13 by channel; 16 × 16 layers, whose
 * lines are then 64 bytes, 5 and 7 to 8 with few lines held at once, about alike with many (`GATHERED`). Tried and left: a
 * channel's cotangents gathered once for `inColumn` and broadcast, no change; channels outermost and one dot product an entry
 * and example, as slow as columns, for cotangents have then to be padded for each kernel row.
 */
import type { Builder } from "../onnx/builder.ts";
import { productOf } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import type { Taps } from "./kernel-views.ts";
import { chunks } from "./outer.ts";
import { numberOf } from "./per-example.ts";

/**
 * Gathered lines of an example held at once, in numbers: more than a core's cache holds, for each further node costs its threads'
 * meeting. Measured on a ResNet-9, 585 nodes instead of 699: 15.2 % of kernels' time instead of 15.8.
 */
export const GATHERED = 1 << 17;

/** An entry of a kernel: its offset, and its channels of the padded and of the plain side. */
export interface Entry {
  offset: number;
  pair: [number, number];
}

type Ranked = Entry & { rank: number };

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

  /** What a kernel column sees of a line. */
  function underColumn(column: number, axis: number) {
    const [start, end] = [column * dilation, column * dilation + (width - 1) * step + 1];
    return start === 0 && step === 1 && end === extents[last] ? [] : [{ axis, start, end, step }];
  }

  /** [C·lines, width·B]: each line of the image as a kernel column sees it. */
  function seenBy(column: number): Value {
    const seen = b.slice(padded(), underColumn(column, 1));
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

  /**
   * [entries, B] in the order given back, of all entries: those of one plain channel share its cotangents, so that only the image's
   * lines are gathered, and product and sum are one matrix–vector product for each channel and example.
   */
  function byChannel(entries: readonly Ranked[]): { rows: Value; ranks: number[] } {
    const columns = [...new Set(entries.map(({ offset }) => offset % (t.kernel[last] ?? 1)))];
    const around = b.pad(
      t.padded,
      t.pads.map(([before, after], k) => ({ axis: k + 2, before, after })),
    );
    const flat = b.reshape(around, [batch, Number(channels) * lines, extents[last] ?? 1]);
    const seen = b.concat(
      columns.map((column) => b.slice(flat, underColumn(column, 2))),
      1,
    );
    const groups = [...Map.groupBy(entries, ({ pair: [, plain] }) => plain).values()];
    const bySize = [...Map.groupBy(groups, (group) => group.length)].flatMap(([count, list]) =>
      chunks(list, spots * count, GATHERED).map((some) => [count, some] as const),
    );
    const delta = b.reshape(t.plain, [batch, Number(t.plain.shape[1]), spots]);
    const parts = bySize.map(([count, list]) => {
      const all = list.flat();
      const firsts = all.map(
        ({ offset, pair: [channel] }) =>
          (columns.indexOf(offset % (t.kernel[last] ?? 1)) * Number(channels) + channel) * lines,
      );
      const under = b.constant(ELEMENT.int64, [size, spots / width], table.flat());
      const offsets = all.map(({ offset }) => offset);
      const places = b.add(b.gather(under, offsets), b.constant(ELEMENT.int64, [all.length, 1], firsts));
      const left = b.op("Gather", [seen, b.reshape(places, [(all.length * spots) / width])], { axis: 1 });
      const right = b.gather(
        delta,
        list.map(([entry]) => entry?.pair[1] ?? 0),
        1,
      );
      const product = b.op("MatMul", [
        b.reshape(left, [batch, list.length, count, spots]),
        b.reshape(right, [batch, list.length, spots, 1]),
      ]);
      return b.transpose(b.reshape(product, [batch, all.length]), [1, 0]);
    });
    return { rows: b.concat(parts, 0), ranks: bySize.flatMap(([, list]) => list.flat().map(({ rank }) => rank)) };
  }

  /** [entries, width, B], still to be summed over the width, of entries in one kernel column. */
  const inColumn = (entries: readonly Entry[], column: number): Value => {
    const products = b.mul(imageOf(entries, column), deltaOf(entries));
    // Lines first: a sum along a middle axis is slow when few examples lie behind it.
    const line = spots === width ? products : b.sum(products, [1]);
    return b.reshape(line, [entries.length, width, batch]);
  };
  return { inColumn, byChannel };
}
