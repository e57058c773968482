/** Gradients of some examples, held layer by layer: what compressors compress and estimators compare. */
import type { Layer } from "../../src/core/mask.ts";
import { openGradientSession } from "../gradients/session.ts";
import type { Examples } from "../train/train.ts";
import { sideBySide } from "./product.ts";

export interface LayerGradients {
  layer: Layer;
  /** [rows, layer.d], row-major. */
  values: Float32Array;
}

export interface Gradients {
  rows: number;
  layers: LayerGradients[];
}

/** Rows `first` … `first + count − 1`, without copying. */
export function rowsOf(values: Float32Array, width: number, first: number, count: number): Float32Array {
  return values.subarray(first * width, (first + count) * width);
}

/** Row 0 of `values` [rows, width] and every ⌊rows/count⌋-th after it, `count` in all: a copy. */
export function everyNth(values: Float32Array, width: number, rows: number, count: number): Float32Array {
  const taken = Math.min(rows, count);
  const step = Math.floor(rows / taken);
  const sample = new Float32Array(taken * width);
  for (let i = 0; i < taken; i++) sample.set(rowsOf(values, width, i * step, 1), i * width);
  return sample;
}

/** Numbers of gradients that one batch may have, and examples at most. */
const [BATCH_NUMBERS, BATCH_EXAMPLES] = [1 << 20, 100];

/** What a gradient graph gives, cut into its blocks. */
export interface Collected {
  /** Of each block [rows, r]. */
  blocks: Float32Array[];
  /** [rows]. */
  losses: Float32Array;
}

/** Runs a gradient graph over several sets of examples, one after another in the result. `advance` hears of each batch. */
export async function collectBlocks(
  graph: Uint8Array | string,
  blocks: readonly { offset: number; r: number }[],
  sets: readonly Examples[],
  advance: (examples: number) => void = () => {},
): Promise<Collected> {
  const dimension = blocks.reduce((sum, { r }) => sum + r, 0);
  const size = Math.max(1, Math.min(BATCH_EXAMPLES, Math.floor(BATCH_NUMBERS / dimension)));
  const batches: { set: Examples; chosen: number[]; first: number }[] = [];
  let rows = 0;
  for (const set of sets) {
    for (let from = 0; from < set.n; from += size) {
      const chosen = Array.from({ length: Math.min(size, set.n - from) }, (_, index) => from + index);
      batches.push({ set, chosen, first: rows });
      rows += chosen.length;
    }
  }
  const values = blocks.map(({ r }) => new Float32Array(rows * r));
  const losses = new Float32Array(rows);
  const session = await openGradientSession(graph);
  try {
    // Each operator has one thread: as many batches as there are threads run side by side.
    await sideBySide(batches.length, async (index) => {
      const { set, chosen, first } = batches[index]!;
      const { gradient, loss } = await session.run(await set.feeds(chosen));
      const [entries, own] = [gradient?.data, loss?.data];
      if (!(entries instanceof Float32Array) || !(own instanceof Float32Array))
        throw new Error("gradient.onnx: expected float32 outputs gradient and loss");
      losses.set(own, first);
      for (let row = 0; row < chosen.length; row++) {
        blocks.forEach(({ offset, r }, block) => {
          const from = row * dimension + offset;
          values[block]!.set(entries.subarray(from, from + r), (first + row) * r);
        });
      }
      advance(chosen.length);
    });
  } finally {
    await session.release();
  }
  return { blocks: values, losses };
}
