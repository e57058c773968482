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

  /** The rows asked for, each [R] float32, and how many of them had to be fetched. Throws CorruptIndexError for an altered row. */
  async read(rows: readonly number[]): Promise<{ values: Map<number, Float32Array>; fetched: number }> {
    const values = new Map<number, Float32Array>();
    const missing: number[] = [];
    for (const row of rows) {
      const kept = this.#kept.get(row);
      if (kept === undefined) missing.push(row);
      else {
        values.set(row, kept);
        this.#kept.delete(row);
        this.#kept.set(row, kept);
      }
    }
    const spans = coalesce(missing, this.#dimension * 4);
    let next = 0;
    const worker = async () => {
      while (next < spans.length) await this.#fetch(spans[next++], values);
    };
    await Promise.all(Array.from({ length: Math.min(CONNECTIONS, spans.length) }, worker));
    for (const row of missing) this.#keep(row, values.get(row)!);
    return { values, fetched: missing.length };
  }

  async #fetch(rows: readonly number[], values: Map<number, Float32Array>): Promise<void> {
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
      values.set(row, new Float32Array(copy.buffer));
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
