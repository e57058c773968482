/** Import: gradients computed elsewhere become shards; whole ones are reduced by the mask while they stream. */
import type { Layer, MaskBlock } from "../../src/core/mask.ts";
import { splitEqually, uniformMask } from "../../src/core/mask.ts";
import type { Config } from "../command/config.ts";
import type { StepProgress } from "../command/progress.ts";
import type { Column, NumberColumn } from "../dataset/column.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { type CollectPlan, leaveOutNonFinite, makeShards } from "./collect.ts";

/** Bytes read from the file at once. */
const READ_BYTES = 1 << 21;

/** The column as one row of numbers an example. Throws an Error when it is not. */
function gradientRows(column: Column): NumberColumn {
  if (column.kind !== "numbers" || column.extents.length !== 1) {
    const got = column.kind === "numbers" ? `[${column.extents.join(", ")}]` : "values of other kinds";
    throw new Error(`${column.name}: expected gradients as [n, R] or [n, d] numbers, got rows of ${got}`);
  }
  return column;
}

/** Numbers a row of the gradients column holds. */
export const widthOf = (column: Column): number => gradientRows(column).extents[0] ?? 0;

/**
 * The layers and the mask of imported gradients of the given width: the configured blocks or one, and of each block r
 * coordinates where the configuration sets `r`, else all.
 */
export function importedMask(config: Config, width: number): { layers: Layer[]; mask: MaskBlock[] } {
  const blocks = config.blocks ?? [{ name: "gradient", d: width }];
  const d = blocks.reduce((sum, block) => sum + block.d, 0);
  if (d !== width) throw new Error(`blocks: expected sizes that sum to ${width}, the gradients' width, got ${d}`);
  const layers = blocks.map(({ name, d: size }) => ({ name, d: size, parameters: [{ name, shape: [size] }] }));
  const sizes = layers.map((layer) => layer.d);
  const { r } = config;
  const shares =
    r === undefined
      ? sizes
      : "total" in r
        ? splitEqually(sizes, r.total)
        : sizes.map((size) => Math.min(size, r.perLayer));
  return { layers, mask: uniformMask(layers, shares, config.seed) };
}

/** Makes the shards of a split from its gradients column. Returns the ids left out because they were not finite. */
export async function importGradients(
  folder: string,
  key: string,
  dataset: Dataset,
  column: Column,
  mask: readonly MaskBlock[],
  plan: Pick<CollectPlan, "split" | "dimension" | "worker" | "shardsBefore" | "shard" | "onNan">,
  progress: StepProgress,
): Promise<string[]> {
  const rows = gradientRows(column);
  const width = widthOf(column);
  let start = 0;
  const kept = Uint32Array.from(
    mask.flatMap((block) => {
      const positions = Array.from(block.kept, (position) => start + position);
      start += block.d;
      return positions;
    }),
  );
  const atOnce = Math.max(1, Math.floor(READ_BYTES / (8 * width)));
  const scratch = new ArrayBuffer(8 * atOnce * width);
  const skipped: string[] = [];
  await makeShards(folder, key, dataset.n, plan, progress, async (shard) => {
    for (let at = 0; at < shard.rows; at += atOnce) {
      const count = Math.min(atOnce, shard.rows - at);
      const asked = Array.from({ length: count }, (_, row) => shard.first + at + row);
      const values = await rows.read(asked, scratch);
      for (let row = 0; row < count; row++) {
        const into = (at + row) * plan.dimension;
        for (let j = 0; j < kept.length; j++) shard.gradients[into + j] = Number(values[row * width + kept[j]!]);
      }
      progress.advance(count);
    }
    skipped.push(...(await leaveOutNonFinite(shard, dataset, plan.onNan, false)));
  });
  return skipped;
}
