/** Full-precision rows where they do not fit in memory: few coalesced range reads, each row checked, the last ones kept. */
import { crc32 } from "./crc32.ts";
import { CorruptIndexError, type IndexSource } from "./source.ts";

/** Connections that a Worker may have open at once. */
const CONNECTIONS = 6;
/** A gap of fewer bytes is read and thrown away rather than split into two requests. */
const GAP_BYTES = 32 * 1024;
/** No range is longer than this: ranges arrive whole, in memory. */
const RANGE_BYTES = 512 * 1024;

export class RowReader {
  readonly #source: IndexSource;
  readonly #file: string;
  readonly #dimension: number;
  readonly #checksums: Uint32Array;
  readonly #capacity: number;
  /** Least recently used first. */
  readonly #kept = new Map<number, Float32Array>();

  /** `checksums`: [n] CRC-32 of each row's bytes; `capacity`: rows kept in memory between calls. */
  constructor(source: IndexSource, file: string, dimension: number, checksums: Uint32Array, capacity: number) {
    this.#source = source;
    this.#file = file;
    this.#dimension = dimension;
    this.#checksums = checksums;
    this.#capacity = capacity;
  }

  /**
   * Calls `visit` with each of the rows asked for, [R] float32, in any order; returns how many had to be fetched. Holds no more than
   * what is kept and what is on its way. Throws CorruptIndexError for an altered row.
   */
  async read(rows: readonly number[], visit: (row: number, values: Float32Array) => void): Promise<number> {
    const missing: number[] = [];
    for (const row of rows) {
      const kept = this.#kept.get(row);
      if (kept === undefined) missing.push(row);
      else {
        this.#kept.delete(row);
        this.#kept.set(row, kept);
        visit(row, kept);
      }
    }
    const spans = coalesce(missing, this.#dimension * 4);
    let next = 0;
    const worker = async () => {
      while (next < spans.length) await this.#fetch(spans[next++], visit);
    };
    await Promise.all(Array.from({ length: Math.min(CONNECTIONS, spans.length) }, worker));
    return missing.length;
  }

  async #fetch(rows: readonly number[], visit: (row: number, values: Float32Array) => void): Promise<void> {
    const rowBytes = this.#dimension * 4;
    const first = rows[0];
    const bytes = await this.#source.range(
      this.#file,
      first * rowBytes,
      (rows[rows.length - 1] - first + 1) * rowBytes,
    );
    for (const row of rows) {
      // A copy: it is aligned, and does not hold on to the whole range.
      const copy = new Uint8Array(rowBytes);
      const read = bytes.subarray((row - first) * rowBytes, (row - first + 1) * rowBytes);
      copy.set(read);
      const checksum = crc32(copy);
      if (checksum !== this.#checksums[row] || read.length !== rowBytes) {
        throw new CorruptIndexError(
          this.#file,
          `crc32 ${hex(this.#checksums[row])} of row ${row}`,
          `${hex(checksum)} over ${read.length} bytes`,
        );
      }
      const values = new Float32Array(copy.buffer);
      this.#keep(row, values);
      visit(row, values);
    }
  }

  #keep(row: number, values: Float32Array): void {
    if (this.#capacity === 0) return;
    if (this.#kept.size >= this.#capacity) {
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    }
    this.#kept.set(row, values);
  }
}

/** Rows grouped into spans that are read at once, ascending. */
function coalesce(rows: readonly number[], rowBytes: number): number[][] {
  const spans: number[][] = [];
  let span: number[] = [];
  for (const row of [...rows].sort((a, b) => a - b)) {
    const near = span.length > 0 && (row - span[span.length - 1] - 1) * rowBytes <= GAP_BYTES;
    if (near && (row - span[0] + 1) * rowBytes <= RANGE_BYTES) span.push(row);
    else {
      span = [row];
      spans.push(span);
    }
  }
  return spans;
}

const hex = (value: number): string => value.toString(16).padStart(8, "0");
