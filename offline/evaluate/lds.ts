/**
 * Linear datamodeling score (Park et al., arXiv 2303.14186, §2): over models trained on random subsets, the Spearman correlation
 * between a query's summed influence of the subset and its measured output.
 */
import { spearman } from "./statistics.ts";

/**
 * Of one query. `influence` [n] predicts the change of the query's loss by each example, `subsets` are rows, `losses` the query's
 * loss under the model of each subset: both sides rise together when the influence is right.
 */
export function linearDatamodelingScore(
  influence: ArrayLike<number>,
  subsets: readonly (readonly number[])[],
  losses: ArrayLike<number>,
): number {
  const predicted = subsets.map((subset) => subset.reduce((sum, row) => sum + influence[row]!, 0));
  return spearman(predicted, losses);
}
