/**
 * What the host lends the search: the compiled scan and a running SHA-256. On Node: `loadKernel()` of offline/serve/kernel.ts. On
 * Workers: `workerKernel()` of src/kernel.ts.
 */
export interface Kernel {
  /** A new instance of the scan, with a memory of its own. */
  instantiate(): KernelExports;
  sha256(): Sha256;
  /** Milliseconds from any start, for the timings of answers. */
  now(): number;
}

/** SHA-256 of a stream of bytes. */
export interface Sha256 {
  /** Takes the next bytes; they may change once it has resolved. */
  update(bytes: Uint8Array): void | Promise<void>;
  /** The digest of all bytes, 64 lower-case hexadecimal digits. Called once, last. */
  finish(): string | Promise<string>;
}

/** Addresses are bytes from the start of `memory`, all multiples of 16; little-endian. */
export interface KernelExports {
  memory: { readonly buffer: ArrayBufferLike; grow(pages: number): number };
  /**
   * Scans coarse rows first … first + count − 1 (`first` a multiple of 8) against the query that writeQuery laid out at `query`,
   * and writes those that may matter. With
   *   dot = scale · Σ_j code_j · query_j,   width = residualFactor · residual + normFactor · norm,
   * a row may matter if dot + width > 0 and ≥ high, or dot − width < 0 and ≤ low. A kernel may first look at the query's high
   * plane alone, highFactor · norm wider, and leave out what already that excludes.
   * `terms` and `codes`: the arrays of coarse.bin. Where `filter` ≠ 0, only rows whose bit is set in the bitmap there take part
   * (row 0 is bit 0 of byte 0). Written are u32 rows at `outRows` and f64 (dot, width) at `outPairs`, with room for `count` each,
   * in no particular order. Returns the number written.
   */
  scan(
    terms: number,
    codes: number,
    stride: number,
    first: number,
    count: number,
    query: number,
    residualFactor: number,
    normFactor: number,
    highFactor: number,
    high: number,
    low: number,
    filter: number,
    outRows: number,
    outPairs: number,
  ): number;
  /**
   * For each of `count` rows (u32 at `rows`): scale · Σ_j code_j · query_j of the fine plane, the query being float64 [stride] at
   * `query`, written as f64 to `out`. `terms` and `codes`: the arrays of fine.bin.
   */
  refine(terms: number, codes: number, stride: number, rows: number, count: number, query: number, out: number): void;
  /** For each of `count` rows (u32 at `rows`): Σ_j row_j · query_j in float64, j ascending; rows float32 [n][dimension], query float64. */
  exact(data: number, dimension: number, rows: number, count: number, query: number, out: number): void;
}

/** The query's integer coordinates are in −QUERY_LIMIT … QUERY_LIMIT: 128 · high + low − QUERY_OFFSET, 0 ≤ high, low ≤ 127. */
export const QUERY_LIMIT = 8191;
export const QUERY_OFFSET = 8192;
/** What stands for `low` where the high plane is used alone. */
export const MIDDLE = 63.5;

/** Bytes of a query at its address: high plane u8 [stride], low plane u8 [stride], int16 [stride]. */
export const queryBytes = (stride: number): number => 4 * stride;
