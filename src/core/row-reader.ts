/** Full-precision rows where they do not fit in memory: few range reads however many rows, each row checked, the last ones kept. */
import { crc32 } from "./crc32.ts";
import { CorruptIndexError, type IndexSource } from "./source.ts";

/** Connections that a Worker may have open at once. */
const CONNECTIONS = 6;
/**
 * Reads that one call makes at most: two rounds of connections. A request makes three such calls (stored queries, likely rows, the
 * rows left), and ten reads to open an index, together within the 50 that a Worker may make on the smallest plan.
 */
export const MOST_READS = 2 * CONNECTIONS;
/** A gap of fewer bytes is read and thrown away rather than split into two reads: about what arrives while a read gets under way. */
const GAP_BYTES = 128 * 1024;

/** Where a row lies: it is the one at `at` in `file`, and `row` of the index. */
export interface RowPlace {
  file: string;
  at: number;
  row: number;
}

interface Wanted extends RowPlace {
  place: number;
}

/** Takes a row, [R] float32, and whether it had to be fetched. */
type Visit = (place: number, values: Float32Array, fetched: boolean) => void;

export class RowReader {
  readonly #source: IndexSource;
  readonly #dimension: number;
  readonly #checksums: Uint32Array;
  readonly #capacity: number;
  readonly #locate: (place: number) => RowPlace;
  /** Least recently used first. */
  readonly #kept = new Map<number, Float32Array>();

  /**
   * `checksums`: [n] CRC-32 of each row's bytes; `capacity`: rows kept in memory between calls; `locate`: where the row at a place
   * is read from, a file of rows of `dimension` float32; by default its places are the rows of one file.
   */
  constructor(
    source: IndexSource,
    dimension: number,
    checksums: Uint32Array,
    capacity: number,
    locate: string | ((place: number) => RowPlace),
  ) {
    this.#source = source;
    this.#dimension = dimension;
    this.#checksums = checksums;
    this.#capacity = capacity;
    this.#locate = typeof locate === "string" ? (row) => ({ file: locate, at: row, row }) : locate;
  }

  /**
   * Calls `visit` with the row at each of the places, in any order, after at most MOST_READS reads. Holds no more than what is kept
   * and what is on its way. Throws CorruptIndexError for an altered row.
   */
  async read(places: Iterable<number>, visit: Visit): Promise<void> {
    const missing: Wanted[] = [];
    for (const place of places) {
      const kept = this.#kept.get(place);
      if (kept === undefined) missing.push({ place, ...this.#locate(place) });
      else {
        this.#kept.delete(place);
        this.#kept.set(place, kept);
        visit(place, kept, false);
      }
    }
    const spans = coalesce(missing, this.#dimension * 4);
    let next = 0;
    const worker = async () => {
      while (next < spans.length) await this.#fetch(spans[next++], visit);
    };
    await Promise.all(Array.from({ length: Math.min(CONNECTIONS, spans.length) }, worker));
  }

  /** Reads one span as a stream, so that a long one is never in memory whole, and picks the rows wanted out of it. */
  async #fetch(span: readonly Wanted[], visit: Visit): Promise<void> {
    const rowBytes = this.#dimension * 4;
    const { file, at: first } = span[0];
    const offset = first * rowBytes;
    const length = (span[span.length - 1].at - first + 1) * rowBytes;
    let position = offset;
    let next = 0;
    let bytes = new Uint8Array(rowBytes);
    let filled = 0;
    for await (const chunk of await this.#source.stream(file, { offset, length })) {
      for (let from = 0; next < span.length; ) {
        from += span[next].at * rowBytes + filled - (position + from);
        if (from >= chunk.length) break;
        const part = chunk.subarray(from, from + rowBytes - filled);
        bytes.set(part, filled);
        filled += part.length;
        from += part.length;
        if (filled < rowBytes) break;
        this.#take(span[next], bytes, visit);
        bytes = new Uint8Array(rowBytes);
        filled = 0;
        next++;
      }
      position += chunk.length;
    }
    if (next < span.length) {
      throw new CorruptIndexError(file, `${length} bytes at ${offset}`, `${position - offset}`);
    }
  }

  #take({ place, file, row }: Wanted, bytes: Uint8Array<ArrayBuffer>, visit: Visit): void {
    const checksum = crc32(bytes);
    if (checksum !== this.#checksums[row]) {
      throw new CorruptIndexError(file, `crc32 ${hex(this.#checksums[row])} of row ${row}`, hex(checksum));
    }
    const values = new Float32Array(bytes.buffer);
    this.#keep(place, values);
    visit(place, values, true);
  }

  #keep(place: number, values: Float32Array): void {
    if (this.#capacity === 0) return;
    if (this.#kept.size >= this.#capacity) {
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    }
    this.#kept.set(place, values);
  }
}

/**
 * Rows grouped into spans that are read at once, each ascending in one file: cut at the widest gaps, at most MOST_READS spans, and
 * at no gap under GAP_BYTES. What is read and thrown away is then the least that so few reads can do with.
 */
function coalesce(rows: readonly Wanted[], rowBytes: number): Wanted[][] {
  const sorted = [...rows].sort((a, b) => (a.file === b.file ? a.at - b.at : a.file < b.file ? -1 : 1));
  const cuts = sorted
    .map((row, index) => {
      if (index === 0) return { index, gap: Number.POSITIVE_INFINITY };
      const before = sorted[index - 1];
      return { index, gap: before.file === row.file ? (row.at - before.at - 1) * rowBytes : Number.POSITIVE_INFINITY };
    })
    .filter(({ gap }) => gap > GAP_BYTES)
    .sort((a, b) => b.gap - a.gap)
    .slice(0, MOST_READS)
    .map(({ index }) => index)
    .sort((a, b) => a - b);
  return cuts.map((start, at) => sorted.slice(start, cuts[at + 1]));
}

const hex = (value: number): string => value.toString(16).padStart(8, "0");
