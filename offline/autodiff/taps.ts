/**
 * Convolutions: entry (o, c, k) of the gradient of an example is Σ over positions of δ[o] · image[c] shifted by the offset k.
 * Either the kept entries' rows are gathered and multiplied (`runs`; offset by offset where extents are open), or offset by offset
 * the channels that they lie in are, as one matrix product from which the entries are picked; for a small kernel, the whole
 * gradient is one product of patches.
 */
import type { Builder } from "../onnx/builder.ts";
import { type Dim, productOf } from "../onnx/dims.ts";
import type { Value } from "../onnx/graph.ts";
import { rowsFirst } from "./axes.ts";
import { layoutOf, spatial, type Taps } from "./kernel-views.ts";
import { COST, chunks, inOrder, LARGEST_BLOCK, overPositions } from "./outer.ts";
import { cheapest, estimate, factorsOf, numberOf, type PerExample, type Plan } from "./per-example.ts";
import { runs } from "./runs.ts";
import { matrixExtents, type Side, type Sides, vectors } from "./sides.ts";

/** A gathered, shifted and multiplied entry of a row (see `COST`). */
const SHIFTED_ROW = 40;

type Pairs = readonly { pair: [number, number] }[];
const distinct = (entries: Pairs, side: 0 | 1): number[] =>
  [...new Set(entries.map(({ pair }) => pair[side]))].sort((a, b) => a - b);

/** As a matrix [plain channels, padded channels · offsets]: the patches in other directions are a convolution by these. Not in groups. */
function sidesOf(b: Builder, shape: readonly number[], t: Taps): Sides[] | null {
  const size = numberOf(t.kernel);
  const [height, width] = matrixExtents(shape);
  const [inside, outside] = [Number(t.padded.shape[1]), Number(t.plain.shape[1])];
  if (height !== outside || width !== inside * size) return null;
  const { image, under, out } = spatial(b, t);
  const spots = productOf(out);
  const examples = t.plain.shape[0] ?? 1;
  const convolved = (v: Value, directions: Value, kernel: number[], attributes: Record<string, number[]>) => {
    const weights = b.transpose(b.cast(directions, v.type), [1, 0]);
    const shaped = b.reshape(weights, [weights.shape[0] ?? 1, v.shape[1] ?? 1, ...kernel]);
    return { value: b.op("Conv", [v, shaped], { kernel_shape: kernel, ...attributes }), axes: [1] };
  };
  const plain = () => b.reshape(t.plain, [examples, outside, spots]);
  const patches = () => {
    const seen = image();
    const views = Array.from({ length: size }, (_, offset) =>
      b.reshape(under(seen, offset), [examples, inside, 1, spots]),
    );
    return b.reshape(b.concat(views, 2), [examples, width, spots]);
  };
  const left = vectors(b, height, plain, (directions) =>
    convolved(
      t.plain,
      directions,
      t.kernel.map(() => 1),
      {},
    ),
  );
  const right: Side = vectors(b, width, patches, (directions) =>
    convolved(t.padded, directions, t.kernel, {
      strides: t.strides,
      dilations: t.dilations,
      pads: [...t.pads.map(([before]) => before), ...t.pads.map(([, after]) => after)],
    }),
  );
  return [{ left, right, scale: 1, held: false, positions: estimate(out) }];
}

export function taps(b: Builder, shape: number[], t: Taps): PerExample {
  const { image, plain, out, under } = layoutOf(b, t);
  const size = numberOf(t.kernel);
  const channelCount = Number(t.padded.shape[1]);
  const plainCount = Number(t.plain.shape[1]);
  const positions = estimate(out);
  const full = channelCount * size * plainCount;

  /** The kept entries of each kernel offset that has some, with their ranks. */
  function byOffset(kept: readonly number[]) {
    const groups = Array.from({ length: size }, () => [] as { pair: [number, number]; rank: number }[]);
    kept.forEach((position, rank) => {
      groups[position % size]?.push({ pair: t.channels(position), rank });
    });
    return groups.flatMap((entries, offset) => (entries.length === 0 ? [] : [{ offset, entries }]));
  }

  function plan(kept: readonly number[]): Plan {
    const moved = COST.move * (channelCount + plainCount) * positions;
    const plans: Omit<Plan, "others">[] = [{ kind: "taps", cost: SHIFTED_ROW * kept.length * positions + moved }];
    const groups = byOffset(kept).map(
      ({ entries }) => [distinct(entries, 0).length, distinct(entries, 1).length] as const,
    );
    const products = groups.reduce((sum, [p, q]) => sum + p * q + COST.move * (p + q), 0);
    plans.push({ kind: "blocks", cost: products * positions + COST.pick * kept.length });
    if (full <= LARGEST_BLOCK) {
      const unfolded = COST.move * channelCount * size * positions;
      plans.push({ kind: "whole", cost: full * positions + unfolded + COST.pick * kept.length });
    }
    return cheapest(plans);
  }

  function fromBlocks(kept: readonly number[]): Value {
    const seen = image();
    const spots = productOf(out);
    const order: number[] = [];
    const parts: Value[] = [];
    const chosen = (v: Value, list: readonly number[], of: number) => (list.length === of ? v : b.gather(v, list, 1));
    for (const { offset, entries } of byOffset(kept)) {
      const channels = distinct(entries, 0);
      const shifted = under(chosen(seen, channels, channelCount), offset);
      const left = b.reshape(shifted, [b.batch, channels.length, spots]);
      const width = Math.max(1, Math.floor(LARGEST_BLOCK / channels.length));
      const outputs = distinct(entries, 1);
      for (let start = 0; start < outputs.length; start += width) {
        const block = outputs.slice(start, start + width);
        const right = b.reshape(chosen(plain(), block, plainCount), [b.batch, block.length, spots]);
        const product = b.op("MatMul", [left, b.transpose(right, [0, 2, 1])]);
        const here = entries.filter(({ pair: [, q] }) => block.includes(q));
        const indices = here.map(({ pair: [p, q] }) => channels.indexOf(p) * block.length + block.indexOf(q));
        const flat = b.reshape(product, [b.batch, channels.length * block.length]);
        parts.push(b.transpose(b.gather(flat, indices, 1), [1, 0]));
        order.push(...here.map(({ rank }) => rank));
      }
    }
    return inOrder(b, b.concat(parts, 0), order);
  }

  /** Every patch against every channel: [B, C·taps·O]. */
  function product(): Value {
    // Where the image has fewer channels, only it is copied, by short rows.
    const { image, plain, out, under } = channelCount < plainCount ? spatial(b, t) : layoutOf(b, t);
    const seen = image();
    const spots = productOf(out);
    const patches = Array.from({ length: size }, (_, offset) =>
      b.reshape(under(seen, offset), [b.batch, channelCount, 1, spots]),
    );
    const unfolded = b.reshape(b.concat(patches, 2), [b.batch, channelCount * size, spots]);
    const flat = b.reshape(plain(), [b.batch, plainCount, spots]);
    return b.reshape(b.op("MatMul", [unfolded, b.transpose(flat, [0, 2, 1])]), [b.batch, full]);
  }
  const entry = (at: number) => {
    const [channel, plain] = t.channels(at);
    return (channel * size + (at % size)) * plainCount + plain;
  };

  function fromTaps(kept: readonly number[]): Value {
    const [inside, outside] = [t.padded.shape.slice(2), t.plain.shape.slice(2)];
    const known = (dims: Dim[]) => dims.every((dim) => typeof dim === "number");
    if (known(inside) && known(outside)) {
      const entries = kept.map((position, rank) => ({ offset: position % size, pair: t.channels(position), rank }));
      const { rows, ranks } = runs(b, t, inside.map(Number), outside.map(Number), entries);
      return inOrder(b, rows, ranks);
    }
    const images = b.transpose(image(), [1, 0, ...out.map((_, k) => k + 2)]);
    const deltas = rowsFirst(b, plain(), [1]);
    const order: number[] = [];
    const parts: Value[] = [];
    for (const { offset, entries } of byOffset(kept)) {
      // Whichever moves less: shift all channels and then pick, or pick and then shift.
      const shiftFirst = channelCount <= entries.length;
      const shifted = shiftFirst ? under(images, offset) : images;
      for (const run of chunks(entries, positions)) {
        const channels = b.gather(
          shifted,
          run.map(({ pair: [channel] }) => channel),
        );
        const seen = shiftFirst ? channels : under(channels, offset);
        const delta = b.gather(
          deltas,
          run.map(({ pair: [, plain] }) => plain),
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
      const { kind } = plan(kept);
      if (kind === "taps") return fromTaps(kept);
      if (kind === "blocks") return fromBlocks(kept);
      return b.transpose(b.gather(product(), kept.map(entry), 1), [1, 0]);
    },
    whole: () => {
      const order = Array.from({ length: numberOf(shape) }, (_, position) => entry(position));
      return b.reshape(b.gather(product(), order, 1), [b.batch, ...shape]);
    },
    plan,
    sides: sidesOf(b, shape, t),
    factors: [
      factorsOf(
        b,
        () => rowsFirst(b, t.padded, [1]),
        () => rowsFirst(b, t.plain, [1]),
        t.channels,
        [channelCount, plainCount],
        { blocks: t.groups, each: size, at: t.position },
      ),
    ],
  };
}
