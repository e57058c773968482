/** Texts as token ids: the most frequent words by number, 0 padding, 1 any other word; or characters by code. */
import { Tensor } from "onnxruntime-node";
import type { Examples } from "../../train/train.ts";

/** Ids of the `size` − 2 most frequent words, ties by first appearance. */
export function vocabularyOf(texts: readonly (readonly string[])[], size: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (const words of texts) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  const frequent = [...counts].sort((a, b) => b[1] - a[1]).slice(0, size - 2);
  return new Map(frequent.map(([word], index) => [word, index + 2]));
}

/** [texts, length], cut or padded. */
export function encoded(
  texts: readonly (readonly string[])[],
  vocabulary: ReadonlyMap<string, number>,
  length: number,
) {
  const ids = new BigInt64Array(texts.length * length);
  texts.forEach((words, row) => {
    words.slice(0, length).forEach((word, at) => {
      ids[row * length + at] = BigInt(vocabulary.get(word) ?? 1);
    });
  });
  return ids;
}

const rowsOf = (values: BigInt64Array, width: number, rows: readonly number[]): BigInt64Array => {
  const chosen = new BigInt64Array(rows.length * width);
  rows.forEach((row, at) => {
    chosen.set(values.subarray(row * width, (row + 1) * width), at * width);
  });
  return chosen;
};

/** Feeds `ids` [B, length] and `target` [B]. */
export function classifiedTexts(ids: BigInt64Array, length: number, labels: ArrayLike<number>): Examples {
  return {
    n: labels.length,
    feeds: (rows) => ({
      ids: new Tensor("int64", rowsOf(ids, length, rows), [rows.length, length]),
      target: new Tensor(
        "int64",
        BigInt64Array.from(rows, (row) => BigInt(labels[row]!)),
        [rows.length],
      ),
    }),
  };
}

/** Feeds `ids` and `target` [B, length] of texts of length + 1 ids: each position's target is the next id, −100 for padding. */
export function continuedTexts(ids: BigInt64Array, length: number): Examples {
  const span = length + 1;
  return {
    n: ids.length / span,
    feeds: (rows) => {
      const seen = new BigInt64Array(rows.length * length);
      const next = new BigInt64Array(rows.length * length);
      rows.forEach((row, at) => {
        const text = ids.subarray(row * span, (row + 1) * span);
        seen.set(text.subarray(0, length), at * length);
        next.set(
          text.subarray(1).map((id) => (id === 0n ? -100n : id)),
          at * length,
        );
      });
      const shape = [rows.length, length];
      return { ids: new Tensor("int64", seen, shape), target: new Tensor("int64", next, shape) };
    },
  };
}
