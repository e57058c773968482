/**
 * Rows of an answer as JSON text. An answer has twenty rows or thousands, and writing a row's columns out costs more than finding
 * the row; what of its text does not depend on the query is therefore kept for the rows that answers have named lately.
 */
import { keptText, type OpenIndex } from "./open-index.ts";
import { describeRow } from "./rows.ts";

interface Kept {
  /** By row: its text without the first brace and the id, from the comma after the influence on. */
  texts: Map<number, { id: string; rest: string }>;
  bytes: number;
}

const kept = new WeakMap<OpenIndex, Kept>();

/** A training example and its influence: the text that JSON.stringify would make of describeRow(index, "example", row, { influence }). */
export function exampleText(index: OpenIndex, row: number, influence: number): string {
  const { id, rest } = textOf(index, row);
  return `${id}${influence}${rest}`;
}

function textOf(index: OpenIndex, row: number): { id: string; rest: string } {
  let own = kept.get(index);
  if (own === undefined) {
    own = { texts: new Map(), bytes: 0 };
    kept.set(index, own);
  }
  const known = own.texts.get(row);
  if (known !== undefined) return known;
  const { id, ...rest } = describeRow(index, "example", row, {});
  const text = { id: `{"id":${JSON.stringify(id)},"influence":`, rest: `,${JSON.stringify(rest).slice(1)}` };
  // A row of an id and nothing else.
  if (text.rest === ",}") text.rest = "}";
  // A character takes one byte or two, and the map and two strings' headers about a hundred.
  const bytes = 2 * (text.id.length + text.rest.length) + 100;
  if (own.bytes + bytes > keptText(index.manifest)) {
    own.texts.clear();
    own.bytes = 0;
  }
  own.bytes += bytes;
  own.texts.set(row, text);
  return text;
}
