/** Ids of the examples. They are read when asked for; that none occurs twice is checked with eight bytes a row, however long they are. */
import { type Column, cellsOf, rowRanges } from "./column.ts";

/** Rows whose hashes are held at once; more rows take as many passes over the ids. */
const ROWS_AT_ONCE = 2 ** 21;

/** Two multipliers, so that the 32-bit hashes are independent: FNV's, and the golden ratio's 32 bits. */
const [FIRST, SECOND] = [0x01000193, 0x9e3779b1];

/** 53 bits of hash as a fraction in [0, 1). */
function hashOf(id: string): number {
  let one = 0x811c9dc5;
  let other = 0x2545f491;
  for (let at = 0; at < id.length; at++) {
    const unit = id.charCodeAt(at);
    one = Math.imul(one ^ unit, FIRST);
    other = Math.imul((other << 7) ^ (other >>> 11) ^ unit, SECOND);
  }
  one = Math.imul(one ^ (one >>> 15), SECOND);
  other = Math.imul(other ^ (other >>> 13), SECOND);
  return ((one >>> 0) * 2 ** 21 + (other >>> 11)) * 2 ** -53;
}

async function eachId(column: Column, n: number, visit: (id: string, row: number) => void): Promise<void> {
  for (const rows of rowRanges(n)) {
    const cells = await cellsOf(column, rows);
    cells.forEach((cell, at) => {
      visit(String(cell), rows[at]!);
    });
  }
}

/** The hashes in [p/parts, (p + 1)/parts) that more than one of the ids has. */
async function repeatedHashes(column: Column, n: number, p: number, parts: number): Promise<Set<number>> {
  let hashes = new Float64Array(Math.ceil((1.1 * n) / parts) + 1);
  let count = 0;
  await eachId(column, n, (id) => {
    const hash = hashOf(id);
    if (Math.floor(hash * parts) !== p) return;
    if (count === hashes.length) {
      const longer = new Float64Array(2 * count);
      longer.set(hashes);
      hashes = longer;
    }
    hashes[count++] = hash;
  });
  const sorted = hashes.subarray(0, count).sort();
  const repeated = new Set<number>();
  for (let at = 1; at < count; at++) if (sorted[at] === sorted[at - 1]) repeated.add(sorted[at]!);
  return repeated;
}

/** Throws an Error that names both rows when an id occurs twice among the first n. Hashes only say where to look. */
export async function checkUnique(column: Column, n: number, rowsAtOnce = ROWS_AT_ONCE): Promise<void> {
  const parts = Math.ceil(n / rowsAtOnce);
  for (let p = 0; p < parts; p++) {
    const repeated = await repeatedHashes(column, n, p, parts);
    if (repeated.size === 0) continue;
    const seen = new Map<string, number>();
    await eachId(column, n, (id, row) => {
      if (!repeated.has(hashOf(id))) return;
      const before = seen.get(id);
      if (before !== undefined) {
        throw new Error(
          `${column.name}: expected unique ids, got ${JSON.stringify(id)} in rows ${before} and ${row}; make them unique, or leave \`ids\` out`,
        );
      }
      seen.set(id, row);
    });
  }
}
