/** Labels that are wrong on purpose. */
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";

/** Another class for a share of the labels, drawn uniformly. */
export function flipped(labels: readonly number[], classes: number, share: number, seed: number | string) {
  const { below } = random(seed, "flips");
  const wrong = labels.map(() => false);
  const now = [...labels];
  for (const row of sampleWithoutReplacement(labels.length, Math.round(share * labels.length), below)) {
    wrong[row] = true;
    now[row] = (labels[row]! + 1 + below(classes - 1)) % classes;
  }
  return { labels: now, wrong: share > 0 ? wrong : null };
}
