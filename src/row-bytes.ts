/**
 * Rows of an answer in its notation. An answer has twenty rows or thousands, and writing a row's columns out costs more than finding
 * the row; what does not depend on the query is therefore kept, as bytes, for the rows that answers have named lately.
 */
import { forgotten, type KeptBytes, keepBytes, position, writeKept } from "./answer-bytes.ts";
import type { Neighbour } from "./core/topk.ts";
import type { Notation } from "./notation.ts";
import type { OpenIndex } from "./open-index.ts";
import { describeRow } from "./rows.ts";

/** What is kept of an index in one notation. */
interface Kept {
  /** The entry that names the index and its version. */
  served?: KeptBytes;
  /** By row: up to its influence, and what comes after it. */
  rows: Map<number, KeptBytes>;
  /** `forgotten` as of these. */
  forgotten: number;
}

const kept = new WeakMap<OpenIndex, Map<Notation, Kept>>();

/** Writes the entry `index` of an answer, of name and version. */
export function writeServed(to: Notation, index: OpenIndex): void {
  const { served } = keptOf(to, index);
  if (served !== undefined) {
    writeKept(served.from, served.to);
    return;
  }
  const { name, version } = index.manifest;
  const start = position();
  to.entries({ index: { name, version } });
  const fresh = keepBytes(start, start, start);
  if (fresh !== undefined) keptOf(to, index).served = fresh;
}

/** Writes the list of describeRow(index, "example", row, { influence }), of training examples and their influences. */
export function writeExamples(to: Notation, index: OpenIndex, neighbours: readonly Neighbour[]): void {
  let own = keptOf(to, index);
  to.beginList(neighbours.length);
  for (let at = 0; at < neighbours.length; at++) {
    const { row, influence } = neighbours[at];
    if (at > 0) to.next();
    const known = own.rows.get(row);
    if (known !== undefined) {
      writeKept(known.from, known.middle);
      to.number(influence);
      writeKept(known.middle, known.to);
    } else {
      const fresh = writeExample(to, index, row, influence);
      // For its sake the others may have been forgotten.
      own = keptOf(to, index);
      if (fresh !== undefined) own.rows.set(row, fresh);
    }
  }
  to.endList();
}

/** Writes a row, and keeps all but its influence where there is room for that. */
function writeExample(to: Notation, index: OpenIndex, row: number, influence: number): KeptBytes | undefined {
  const { id, ...columns } = describeRow(index, "example", row, {});
  const more = Object.keys(columns).length;
  const start = position();
  to.beginMap(2 + more);
  to.entries({ id });
  to.next();
  to.name("influence");
  const before = position();
  to.number(influence);
  const after = position();
  if (more > 0) {
    to.next();
    to.entries(columns);
  }
  to.endMap();
  return keepBytes(start, before, after);
}

/** What is kept now. */
function keptOf(to: Notation, index: OpenIndex): Kept {
  let notations = kept.get(index);
  if (notations === undefined) {
    notations = new Map();
    kept.set(index, notations);
  }
  const known = notations.get(to);
  if (known?.forgotten === forgotten()) return known;
  const own: Kept = { rows: new Map(), forgotten: forgotten() };
  notations.set(to, own);
  return own;
}
