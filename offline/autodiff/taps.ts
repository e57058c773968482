/**
 * Convolutions: entry (o, c, k) of the gradient of an example is Σ over positions of δ[o] · image[c] shifted by the offset k.
 * Either the kept entries are gathered offset by offset, or, for a small kernel, the whole gradient is one product of patches.
 */
import type { Builder } from "../onnx/builder.ts";
import { minus, plus, productOf, times } from "../onnx/dims.ts";
import type { Value } from "../onnx/graph.ts";
import { COST, chunks, inOrder, LARGEST_BLOCK, overPositions } from "./outer.ts";
import { estimate, factorsOf, numberOf, type PerExample, type Plan, rowsFirst } from "./per-example.ts";

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
}

export function taps(b: Builder, shape: number[], t: Taps): PerExample {
  const size = numberOf(t.kernel);
  const out = t.plain.shape.slice(2);
  const channelCount = Number(t.padded.shape[1]);
  const plainCount = Number(t.plain.shape[1]);
  const positions = estimate(out);
  const axes = t.kernel.map((_, k) => k + 2);
  const full = channelCount * size * plainCount;
  const image = () =>
    b.pad(
      t.padded,
      t.pads.map(([before, after], k) => ({ axis: k + 2, before, after })),
    );

  /** What a kernel offset sees: of [·, ·, …image] the entries under it, [·, ·, …out]. */
  function under(v: Value, offset: number): Value {
    const cuts = axes.flatMap((axis, k) => {
      const index = Math.floor(offset / numberOf(t.kernel.slice(k + 1))) % (t.kernel[k] ?? 1);
      const start = index * (t.dilations[k] ?? 1);
      const step = t.strides[k] ?? 1;
      const count = out[k] ?? 1;
      if (start === 0 && step === 1 && count === v.shape[axis]) return [];
      return [{ axis, start, end: plus(times(minus(count, 1), step), start + 1), step }];
    });
    return b.slice(v, cuts);
  }

  function plan(kept: readonly number[]): Plan {
    const moved = COST.move * (channelCount + plainCount) * positions;
    const tapsCost = COST.row * kept.length * positions + moved;
    const wholeCost = full * positions + COST.move * channelCount * size * positions + COST.pick * kept.length;
    if (wholeCost < tapsCost && full <= LARGEST_BLOCK) return { kind: "whole", cost: wholeCost };
    return { kind: "taps", cost: tapsCost };
  }

  /** Every patch against every channel: [B, C·taps·O]. */
  function product(): Value {
    const seen = image();
    const spots = productOf(out);
    const patches = Array.from({ length: size }, (_, offset) =>
      b.reshape(under(seen, offset), [b.batch, channelCount, 1, spots]),
    );
    const unfolded = b.reshape(b.concat(patches, 2), [b.batch, channelCount * size, spots]);
    const flat = b.reshape(t.plain, [b.batch, plainCount, spots]);
    return b.reshape(b.op("MatMul", [unfolded, b.transpose(flat, [0, 2, 1])]), [b.batch, full]);
  }
  const entry = (at: number) => {
    const [channel, plain] = t.channels(at);
    return (channel * size + (at % size)) * plainCount + plain;
  };

  function fromTaps(kept: readonly number[]): Value {
    const images = b.transpose(image(), [1, 0, ...axes]);
    const deltas = rowsFirst(b, t.plain, [1]);
    const order: number[] = [];
    const parts: Value[] = [];
    for (let offset = 0; offset < size; offset++) {
      const here = kept.flatMap((position, rank) => (position % size === offset ? [{ position, rank }] : []));
      // Whichever moves less: shift all channels and then pick, or pick and then shift.
      const shiftFirst = channelCount <= here.length;
      const shifted = shiftFirst ? under(images, offset) : images;
      for (const run of chunks(here, positions)) {
        const pairs = run.map(({ position }) => t.channels(position));
        const channels = b.gather(
          shifted,
          pairs.map(([channel]) => channel),
        );
        const seen = shiftFirst ? channels : under(channels, offset);
        const delta = b.gather(
          deltas,
          pairs.map(([, plain]) => plain),
        );
        const spots = out.filter((dim) => dim !== 1);
        parts.push(overPositions(b, b.mul(b.reshape(seen, [run.length, b.batch, ...spots]), delta)));
        order.push(...run.map(({ rank }) => rank));
      }
    }
    return inOrder(b, b.concat(parts, 0), order);
  }

  return {
    shape,
    at: (kept) => {
      if (plan(kept).kind === "taps") return fromTaps(kept);
      return b.transpose(b.gather(product(), kept.map(entry), 1), [1, 0]);
    },
    whole: () => {
      const order = Array.from({ length: numberOf(shape) }, (_, position) => entry(position));
      return b.reshape(b.gather(product(), order, 1), [b.batch, ...shape]);
    },
    plan,
    factors: [
      factorsOf(
        b,
        () => rowsFirst(b, t.padded, [1]),
        () => rowsFirst(b, t.plain, [1]),
        t.channels,
        [channelCount, plainCount],
      ),
    ],
  };
}
