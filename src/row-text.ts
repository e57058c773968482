/**
 * Rows of an answer as JSON text. An answer has twenty rows or thousands, and writing a row's columns out costs more than finding
 * the row; what of its text does not depend on the query is therefore kept for the rows that answers have named lately.
 */
import type { Neighbour } from "./core/topk.ts";
import { keptText, type OpenIndex } from "./open-index.ts";
import { describeRow } from "./rows.ts";

/** A row's text up to its influence, and after it. */
interface Text {
  id: string;
  rest: string;
}

interface Kept {
  /** By row. */
  texts: Map<number, Text>;
  bytes: number;
}

const kept = new WeakMap<OpenIndex, Kept>();

/**
 * Training examples and their influences, as JSON.stringify would write the list of describeRow(index, "example", row, { influence }),
 * without its brackets.
 */
export function exampleTexts(index: OpenIndex, neighbours: readonly Neighbour[]): string {
  const own = keptOf(index);
  let text = "";
  for (const { row, influence } of neighbours) {
    const { id, rest } = own.texts.get(row) ?? keep(own, index, row);
    if (text !== "") text += ",";
    text += id;
    text += influence;
    text += rest;
  }
  return text;
}

function keptOf(index: OpenIndex): Kept {
  const known = kept.get(index);
  if (known !== undefined) return known;
  const own = { texts: new Map(), bytes: 0 };
  kept.set(index, own);
  return own;
}

function keep(own: Kept, index: OpenIndex, row: number): Text {
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
