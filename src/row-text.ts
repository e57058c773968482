/**
 * Rows of an answer as JSON, in bytes. An answer has twenty rows or thousands, and writing a row's columns out costs more than finding
 * the row; what of its text does not depend on the query is therefore kept for the rows that answers have named lately.
 */
import { writeAscii, writeBytes } from "./byte-text.ts";
import type { Neighbour } from "./core/topk.ts";
import { keptText, type OpenIndex } from "./open-index.ts";
import { describeRow } from "./rows.ts";

/** A row's text up to its influence, and after it, in UTF-8. */
interface Text {
  id: Uint8Array;
  rest: Uint8Array;
}

interface Kept {
  /** By row. */
  texts: Map<number, Text>;
  bytes: number;
}

const encoder = new TextEncoder();
const kept = new WeakMap<OpenIndex, Kept>();

/**
 * Writes training examples and their influences, as JSON.stringify would write the list of describeRow(index, "example", row, { influence }),
 * without its brackets.
 */
export function writeExamples(index: OpenIndex, neighbours: readonly Neighbour[]): void {
  const own = keptOf(index);
  for (let at = 0; at < neighbours.length; at++) {
    const { row, influence } = neighbours[at];
    const { id, rest } = own.texts.get(row) ?? keep(own, index, row);
    if (at > 0) writeAscii(",");
    writeBytes(id);
    writeAscii(String(influence));
    writeBytes(rest);
  }
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
  const columns = JSON.stringify(rest);
  const text = {
    id: encoder.encode(`{"id":${JSON.stringify(id)},"influence":`),
    // A row may be an id and nothing else.
    rest: encoder.encode(columns === "{}" ? "}" : `,${columns.slice(1)}`),
  };
  // The map and the headers of two arrays take some hundreds.
  const bytes = text.id.length + text.rest.length + 300;
  if (own.bytes + bytes > keptText(index.manifest)) {
    own.texts.clear();
    own.bytes = 0;
  }
  own.bytes += bytes;
  own.texts.set(row, text);
  return text;
}
