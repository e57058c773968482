/**
 * Exact influence on a sample from whole gradients: −g_qᵀ(H + λI)⁻¹g_i through the n × n kernel (estimate/direct.ts), in float64, and so
 * without a d × d matrix.
 */
import type { Config } from "../command/config.ts";
import type { CompiledGradient } from "../compile/compile.ts";
import type { Examples } from "../train/train.ts";
import { direct } from "./estimate/direct.ts";
import { dampingFor, type Kernel, kernelOf } from "./estimate/estimator.ts";
import { collectBlocks } from "./gradients.ts";
import { summed } from "./score.ts";

/**
 * Influence [m, n] of each layer, or of all at once under a joint Hessian. `full`: compiled to keep every coordinate; `sets`: the n
 * training examples, then the m queries. Throws an Error when a gradient is not finite.
 */
export async function exactByLayer(
  { graph, mask }: Pick<CompiledGradient, "graph" | "mask">,
  { n, m, sets }: { n: number; m: number; sets: readonly Examples[] },
  { damping, hessian }: Pick<Config, "damping" | "hessian">,
  advance: (examples: number) => void = () => {},
): Promise<Float64Array[]> {
  const { blocks, losses } = await collectBlocks(graph, mask, sets, advance);
  const bad = losses.findIndex((loss) => !Number.isFinite(loss));
  if (bad >= 0) {
    throw new Error(
      `exact influence: expected finite losses, got ${losses[bad]} for ${bad < n ? "training example" : "query"} ${bad < n ? bad : bad - n} of the sample; check the model, or choose another seed`,
    );
  }
  const kernels: Kernel[] = [];
  for (const [index, { d }] of mask.entries()) {
    kernels.push(await kernelOf(blocks[index]!, n, m, d));
    // The largest array there is; its inner products are all that is needed.
    blocks[index] = new Float32Array();
  }
  const influence: Float64Array[] = [];
  for (const kernel of hessian === "joint" ? [joined(kernels)] : kernels) {
    influence.push(await direct.influence(kernel, dampingFor(kernel, damping)));
  }
  return influence;
}

/** The kernel of all layers together: inner products add up. */
function joined(kernels: readonly Kernel[]): Kernel {
  return {
    n: kernels[0]?.n ?? 0,
    m: kernels[0]?.m ?? 0,
    width: kernels.reduce((sum, { width }) => sum + width, 0),
    train: summed(kernels.map(({ train }) => train)),
    cross: summed(kernels.map(({ cross }) => cross)),
  };
}
