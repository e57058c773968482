/**
 * What a convolution's kernel sees: its operands, and how images and cotangents are laid in memory so that the positions under a
 * kernel offset can be cut out.
 */
import type { Builder } from "../onnx/builder.ts";
import { type Dim, minus, plus, times } from "../onnx/dims.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { numberOf } from "./per-example.ts";

export interface Taps {
  /** The side that is padded and shifted, [B, C, …], and the other, [B, O, …]. */
  padded: Value;
  plain: Value;
  kernel: number[];
  strides: number[];
  dilations: number[];
  pads: [number, number][];
  /** Channels of the padded and of the plain side of a kernel's entry. */
  channels: (position: number) => [number, number];
  /** The entry of those channels at a kernel offset. */
  position: (padded: number, plain: number, offset: number) => number;
  /** Groups of channels. */
  groups: number;
}

export interface Layout {
  /** [B, C, …] with its padding. */
  image(): Value;
  /** The other side, [B, O, …out]. */
  plain(): Value;
  out: Dim[];
  /** What a kernel offset sees: of [·, ·, …image] the entries under it, [·, ·, …out]. */
  under(v: Value, offset: number): Value;
}

const padded = (b: Builder, t: Taps): Value =>
  b.pad(
    t.padded,
    t.pads.map(([before, after], k) => ({ axis: k + 2, before, after })),
  );

/** The index along each axis of a kernel offset. */
const indexOf = (t: Taps, offset: number): number[] =>
  t.kernel.map((extent, k) => Math.floor(offset / numberOf(t.kernel.slice(k + 1))) % extent);

/** Columns cut in one convolution: onnxruntime's WebGPU (1.30) errs at groups of more outputs, unless they are a multiple of 4. */
const COLUMNS_AT_ONCE = 4;

/**
 * [B, C, columns, …, width]: the padded side as columns of the kernel see its lines, in convolutions whose kernels are a single 1
 * each. They pad, cut and join on all cores; Pad, Slice and Concat, on one core each, take two to three times as long (measured).
 * Along the other axes the side is only padded.
 */
export function seenByColumns(b: Builder, t: Taps, columns: readonly number[]): Value {
  const [batch = 1, channels] = [t.padded.shape[0], Number(t.padded.shape[1])];
  const ofLast = (extents: readonly number[]) => extents.map((extent, k) => (k < extents.length - 1 ? 1 : extent));
  const kernel = ofLast(t.kernel);
  const runs = Array.from({ length: Math.ceil(columns.length / COLUMNS_AT_ONCE) }, (_, run) =>
    columns.slice(run * COLUMNS_AT_ONCE, (run + 1) * COLUMNS_AT_ONCE),
  );
  const parts = runs.map((run) => {
    const ones = run.flatMap((column) => Array.from({ length: numberOf(kernel) }, (_, at) => Number(at === column)));
    const single = b.cast(b.constant(ELEMENT.float32, [run.length, 1, ...kernel], ones), t.padded.type);
    // The runtime repeats them when it loads: a file would hold them for every channel.
    const weights = b.op("Tile", [single, b.ints([channels, 1, ...kernel.map(() => 1)])]);
    const seen = b.op("Conv", [t.padded, weights], {
      group: channels,
      kernel_shape: kernel,
      strides: ofLast(t.strides),
      dilations: ofLast(t.dilations),
      pads: [...t.pads.map(([before]) => before), ...t.pads.map(([, after]) => after)],
    });
    return b.reshape(seen, [batch, channels, run.length, ...seen.shape.slice(2)]);
  });
  return b.concat(parts, 2);
}

/** As they are: an offset's view is a slice along each axis. */
export function spatial(b: Builder, t: Taps): Layout {
  const out = t.plain.shape.slice(2);
  return {
    image: () => padded(b, t),
    plain: () => t.plain,
    out,
    under: (v, offset) => {
      const index = indexOf(t, offset);
      const cuts = out.flatMap((count, k) => {
        const start = (index[k] ?? 0) * (t.dilations[k] ?? 1);
        const step = t.strides[k] ?? 1;
        if (start === 0 && step === 1 && count === v.shape[k + 2]) return [];
        return [{ axis: k + 2, start, end: plus(times(minus(count, 1), step), start + 1), step }];
      });
      return b.slice(v, cuts);
    },
  };
}

/**
 * With stride 1, images as one line: an offset's view is one run of it, several times faster to cut out than short rows. The
 * cotangents are laid on the same line, with zeros where the padded image's rows are longer.
 */
function line(b: Builder, t: Taps, out: number[]): Layout {
  const extents = out.map((count, k) => count + (t.dilations[k] ?? 1) * ((t.kernel[k] ?? 1) - 1));
  const strides = extents.map((_, k) => numberOf(extents.slice(k + 1)));
  const length = out.reduce((sum, count, k) => sum + (count - 1) * (strides[k] ?? 1), 1);
  const [batch = 1, channels = 1] = t.padded.shape;
  return {
    image: () => b.reshape(padded(b, t), [batch, channels, numberOf(extents)]),
    plain: () => {
      const wider = out.flatMap((count, k) =>
        k === 0 ? [] : [{ axis: k + 2, before: 0, after: (extents[k] ?? 1) - count }],
      );
      const rows = (out[0] ?? 1) * (strides[0] ?? 1);
      const flat = b.reshape(b.pad(t.plain, wider), [...t.plain.shape.slice(0, 2), rows]);
      return rows === length ? flat : b.slice(flat, [{ axis: 2, start: 0, end: length }]);
    },
    out: [length],
    under: (v, offset) => {
      const start = indexOf(t, offset).reduce((sum, i, k) => sum + i * (t.dilations[k] ?? 1) * (strides[k] ?? 1), 0);
      return b.slice(v, [{ axis: 2, start, end: start + length }]);
    },
  };
}

export function layoutOf(b: Builder, t: Taps): Layout {
  const out = t.plain.shape.slice(2);
  const known = out.every((dim) => typeof dim === "number") ? out : null;
  const plain = t.strides.every((stride) => stride === 1) && numberOf(t.kernel) > 1;
  return known && plain ? line(b, t, known) : spatial(b, t);
}
