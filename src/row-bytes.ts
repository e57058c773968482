/**
 * Rows of an answer in its notation. An answer has twenty rows or thousands, and writing a row's columns out costs more than finding
 * the row; what does not depend on the query is therefore kept, as bytes, for the rows that answers have named lately.
 */
import { bytesSince, position, writeBytes } from "./answer-bytes.ts";
import type { Neighbour } from "./core/topk.ts";
import type { Notation } from "./notation.ts";
import { keptRows, type OpenIndex } from "./open-index.ts";
import { describeRow } from "./rows.ts";

/** A row's bytes up to its influence, and after it. */
interface Pieces {
  before: Uint8Array;
  after: Uint8Array;
}

interface Kept {
  /** The entry that names the index and its version, by notation. */
  served: Map<Notation, Uint8Array>;
  /** By notation and row. */
  rows: Map<Notation, Map<number, Pieces>>;
  /** Of all rows. */
  bytes: number;
}

const kept = new WeakMap<OpenIndex, Kept>();

/** Writes the entry `index` of an answer, of name and version. */
export function writeServed(to: Notation, index: OpenIndex): void {
  const { served } = keptOf(index);
  const bytes = served.get(to);
  if (bytes !== undefined) {
    writeBytes(bytes);
  } else {
    const { name, version } = index.manifest;
    const start = position();
    to.entries({ index: { name, version } });
    served.set(to, bytesSince(start));
  }
}

/** Writes the list of describeRow(index, "example", row, { influence }), of training examples and their influences. */
export function writeExamples(to: Notation, index: OpenIndex, neighbours: readonly Neighbour[]): void {
  const own = keptOf(index);
  const rows = rowsOf(own, to);
  to.beginList(neighbours.length);
  for (let at = 0; at < neighbours.length; at++) {
    const { row, influence } = neighbours[at];
    if (at > 0) to.next();
    const pieces = rows.get(row);
    if (pieces !== undefined) {
      writeBytes(pieces.before);
      to.number(influence);
      writeBytes(pieces.after);
    } else {
      const fresh = writeExample(to, index, row, influence);
      makeRoom(own, fresh, keptRows(index.manifest));
      rows.set(row, fresh);
    }
  }
  to.endList();
}

function writeExample(to: Notation, index: OpenIndex, row: number, influence: number): Pieces {
  const { id, ...columns } = describeRow(index, "example", row, {});
  const more = Object.keys(columns).length;
  const start = position();
  to.beginMap(2 + more);
  to.entries({ id });
  to.next();
  to.name("influence");
  const before = bytesSince(start);
  to.number(influence);
  const end = position();
  if (more > 0) {
    to.next();
    to.entries(columns);
  }
  to.endMap();
  return { before, after: bytesSince(end) };
}

function keptOf(index: OpenIndex): Kept {
  const known = kept.get(index);
  if (known !== undefined) return known;
  const own: Kept = { served: new Map(), rows: new Map(), bytes: 0 };
  kept.set(index, own);
  return own;
}

function rowsOf(own: Kept, to: Notation): Map<number, Pieces> {
  const known = own.rows.get(to);
  if (known !== undefined) return known;
  const rows = new Map<number, Pieces>();
  own.rows.set(to, rows);
  return rows;
}

/** Counts one row more among those that are kept, and drops all the others where they would be too many bytes. */
function makeRoom(own: Kept, { before, after }: Pieces, most: number): void {
  // The map and the headers of two arrays take some hundreds.
  const bytes = before.length + after.length + 300;
  if (own.bytes + bytes > most) {
    for (const rows of own.rows.values()) rows.clear();
    own.bytes = 0;
  }
  own.bytes += bytes;
}
