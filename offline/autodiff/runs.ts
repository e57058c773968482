/**
 * Kept entries of a convolution's gradient, their rows gathered: entry (o, c, k) is Σ over positions of δ[o] · image[c] at the
 * positions under the kernel offset k. Two forms, both bound by memory and not by arithmetic:
 *
 * - `byChannel`: examples lie outermost. The image is cut out once for each kernel column; a shift along every other axis is only
 *   another line to gather. Entries of one output channel share its cotangents, and product and sum are one matrix–vector
 *   product for each run of entries and example: no product is written.
 * - `byPosition`: examples lie innermost, so that a position of all examples is contiguous; gathered, multiplied, summed. For short
 *   lines and few positions.
 *
 * Measured in a ResNet-9 (16 images, 1,024 entries a layer, two cores): a 32 × 32 layer 11 ms, 16 × 16 5 to 6, 8 × 8 2.0, 4 × 4 0.9. More
 * than half of the first two is copying lines, at the rate at which their cut images can be read. Tried there and left, the
 * same or slower: a cut image for each kernel offset, so that an entry is one row (7 ms instead of 5.4 at 16 × 16, 15 instead of 11 at
 * 32 × 32); examples between lines and columns (6); cotangents shifted instead of images; images cut by a product with shift
 * matrices; few channels or few lines of all images at a time, to stay in a core's cache; runs of other lengths; and blocks of
 * products, 9 to 13 ms instead of 5 at 16 × 16.
 */
import type { Builder } from "../onnx/builder.ts";
import { times } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { seenByColumns, type Taps } from "./kernel-views.ts";
import { chunks } from "./outer.ts";
import { numberOf } from "./per-example.ts";

/** Gathered numbers of an example held at once; from 2¹⁵ to 2¹⁸ the time is the same (measured). */
const GATHERED = 1 << 17;

/** Numbers in a line, and in an image, from which on lines are gathered for each example by itself. */
const [LONG_LINE, LARGE_IMAGE] = [16, 256];

/** The most entries of a channel in one matrix–vector product. */
const LARGEST_RUN = 16;

/** A kept entry of a kernel: its offset, its channels of the padded and of the plain side, and its rank among the kept ones. */
interface Entry {
  offset: number;
  pair: [number, number];
  rank: number;
}

/** Rows [entries, B], in the order of the entries of these ranks. */
interface Rows {
  rows: Value;
  ranks: number[];
}

/** Entries of a convolution whose image and output have the given extents. */
export function runs(b: Builder, t: Taps, image: number[], out: number[], entries: readonly Entry[]): Rows {
  const byLines = (out.at(-1) ?? 0) >= LONG_LINE || numberOf(out) >= LARGE_IMAGE;
  return byLines ? byChannel(b, t, image, out, entries) : byPosition(b, t, image, out, entries);
}

/** Groups cut into runs of 2ⁿ entries, those of equal length together: few kinds of products, and nothing is computed twice. */
function inPowersOfTwo<T>(groups: readonly T[][]): [number, T[][]][] {
  const runs = new Map<number, T[][]>();
  for (const group of groups) {
    let at = 0;
    for (let count = LARGEST_RUN; count >= 1; count /= 2) {
      for (; at + count <= group.length; at += count) {
        runs.set(count, [...(runs.get(count) ?? []), group.slice(at, at + count)]);
      }
    }
  }
  return [...runs].sort(([a], [b]) => b - a);
}

/** [offsets, positions along the output's first axes, of extents `out`]: `place` of the indices in the padded image. */
function underKernel(t: Taps, out: number[], place: (indices: number[]) => number): number[] {
  const spots = numberOf(out);
  return Array.from({ length: numberOf(t.kernel) * spots }, (_, entry) => {
    const [offset, spot] = [Math.floor(entry / spots), entry % spots];
    const indices = out.map((count, k) => {
      const at = Math.floor(spot / numberOf(out.slice(k + 1))) % count;
      const under = Math.floor(offset / numberOf(t.kernel.slice(k + 1))) % (t.kernel[k] ?? 1);
      return at * (t.strides[k] ?? 1) + under * (t.dilations[k] ?? 1);
    });
    return place(indices);
  });
}

/** Row-major. */
const flatIndex = (indices: number[], extents: number[]): number =>
  indices.reduce((sum, index, k) => sum * (extents[k] ?? 1) + index, 0);

/**
 * [entries, columns of `table`]: the row of each entry's kernel offset, added to where the entry starts. A table and a sum, which the
 * runtime folds when it loads, keep the file a hundred times smaller than the list.
 */
function placesOf(
  b: Builder,
  t: Taps,
  table: number[],
  entries: readonly Entry[],
  start: (entry: Entry) => number,
): Value {
  const size = numberOf(t.kernel);
  const under = b.constant(ELEMENT.int64, [size, table.length / size], table);
  const rows = b.gather(
    under,
    entries.map(({ offset }) => offset),
  );
  return b.add(rows, b.constant(ELEMENT.int64, [entries.length, 1], entries.map(start)));
}

function byChannel(b: Builder, t: Taps, image: number[], out: number[], entries: readonly Entry[]): Rows {
  const [batch = 1, channels, plainCount] = [t.padded.shape[0], Number(t.padded.shape[1]), Number(t.plain.shape[1])];
  const [spots, width, kernelColumns] = [numberOf(out), out.at(-1) ?? 1, t.kernel.at(-1) ?? 1];
  const columnOf = ({ offset }: Entry) => offset % kernelColumns;
  const columns = [...new Set(entries.map(columnOf))].sort((a, b) => a - b);
  const extents = image.slice(0, -1).map((extent, k) => extent + (t.pads[k]?.[0] ?? 0) + (t.pads[k]?.[1] ?? 0));
  const lines = numberOf(extents);
  const seen = b.reshape(seenByColumns(b, t, columns), [batch, channels * columns.length * lines, width]);
  const table = underKernel(t, out.slice(0, -1), (indices) => flatIndex(indices, extents));
  const first = (entry: Entry) => (entry.pair[0] * columns.length + columns.indexOf(columnOf(entry))) * lines;
  /** [B, runs, …extents]: the cotangents that each run of entries shares. */
  const deltas = (list: readonly Entry[][], extents: number[]) =>
    b.gather(
      b.reshape(t.plain, [batch, plainCount, ...extents]),
      list.map(([entry]) => entry?.pair[1] ?? 0),
      1,
    );

  const groups = [...Map.groupBy(entries, ({ pair: [, plain] }) => plain).values()];
  const parts = inPowersOfTwo(groups).map(([count, list]) => {
    const products = chunks(list, spots * count, GATHERED).map((some) => {
      const gathered = b.op("Gather", [seen, placesOf(b, t, table, some.flat(), first)], { axis: 1 });
      const left = b.reshape(gathered, [batch, some.length, count, spots]);
      // The runtime is fast at a matrix times a column, but at one row only times another row turned.
      const right = count > 1 ? deltas(some, [spots, 1]) : b.transpose(deltas(some, [1, spots]), [0, 1, 3, 2]);
      return b.op("MatMul", [left, right]);
    });
    return { rows: b.reshape(b.concat(products, 1), [batch, list.length * count]), entries: list.flat() };
  });
  const rows = b.concat(
    parts.map((part) => part.rows),
    1,
  );
  return { rows: b.transpose(rows, [1, 0]), ranks: parts.flatMap((part) => part.entries.map(({ rank }) => rank)) };
}

function byPosition(b: Builder, t: Taps, image: number[], out: number[], entries: readonly Entry[]): Rows {
  const [channels, plainCount] = [Number(t.padded.shape[1]), Number(t.plain.shape[1])];
  const [inside, spots] = [numberOf(image), numberOf(out)];
  const examplesLast = (v: Value, rows: number) => b.transpose(b.reshape(v, [v.shape[0] ?? 1, rows]), [1, 0]);
  // A row of zeros first, which stands for all that lies outside the image. Added to a flat list: the runtime would move the padding of
  // a matrix before the Transpose, where it is no block.
  const rows = channels * inside;
  const flat = b.reshape(examplesLast(t.padded, rows), [times(b.batch, rows)]);
  const seen = b.reshape(b.pad(flat, [{ axis: 0, before: b.batch, after: 0 }]), [rows + 1, b.batch]);
  const outside = -(rows + 1);
  const table = underKernel(t, out, (indices) => {
    const at = indices.map((index, k) => index - (t.pads[k]?.[0] ?? 0));
    const within = at.every((index, k) => index >= 0 && index < (image[k] ?? 0));
    return within ? 1 + flatIndex(at, image) : outside;
  });
  const deltas = b.reshape(examplesLast(t.plain, plainCount * spots), [plainCount, spots, b.batch]);
  const parts = chunks(entries, 2 * spots, GATHERED).map((some) => {
    const places = placesOf(b, t, table, some, ({ pair: [channel] }) => channel * inside);
    const gathered = b.op("Gather", [seen, b.op("Max", [places, b.ints([0])])], { axis: 0 });
    const delta = b.gather(
      deltas,
      some.map(({ pair: [, plain] }) => plain),
    );
    return b.sum(b.mul(gathered, delta), [1]);
  });
  return { rows: b.concat(parts, 0), ranks: entries.map(({ rank }) => rank) };
}
