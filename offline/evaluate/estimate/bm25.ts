/**
 * BM25 (Robertson and Zaragoza, 2009), a lexical baseline that needs no model: Σ over the query's words of
 * ln(1 + (n − f + ½)/(f + ½)) · c(k₁ + 1)/(c + k₁(1 − b + b·length/mean length)), f the documents that have the word and c its count
 * in the document; k₁ = 1.2, b = 0.75.
 */
const K1 = 1.2;
const B = 0.75;

/** Negated scores [m, n], so that, as everywhere, the most negative is the most helpful. Texts are lists of words or tokens. */
export function bm25<Word>(
  documents: readonly (readonly Word[])[],
  queries: readonly (readonly Word[])[],
): Float64Array {
  const n = documents.length;
  const meanLength = documents.reduce((sum, document) => sum + document.length, 0) / n;
  const postings = new Map<Word, Map<number, number>>();
  documents.forEach((document, index) => {
    for (const word of document) {
      const counts = postings.get(word) ?? new Map<number, number>();
      counts.set(index, (counts.get(index) ?? 0) + 1);
      postings.set(word, counts);
    }
  });
  const scores = new Float64Array(queries.length * n);
  queries.forEach((query, row) => {
    for (const word of query) {
      const counts = postings.get(word);
      if (!counts) continue;
      const rarity = Math.log(1 + (n - counts.size + 0.5) / (counts.size + 0.5));
      for (const [index, count] of counts) {
        const length = (documents[index]?.length ?? 0) / meanLength;
        scores[row * n + index]! -= (rarity * count * (K1 + 1)) / (count + K1 * (1 - B + B * length));
      }
    }
  });
  return scores;
}
