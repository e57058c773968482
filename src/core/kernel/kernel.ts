/**
 * What the host lends the search: the compiled kernel and a clock. On Node: `loadKernel()` of offline/serve/kernel.ts. On
 * Workers: `workerKernel()` of src/kernel.ts.
 */
export interface Kernel {
  /** A new instance of the kernel, with a memory of its own. */
  instantiate(): KernelExports;
  /** Milliseconds from any start, for the timings of answers. */
  now(): number;
}

/**
 * Addresses are bytes from the start of `memory`, all multiples of 16; little-endian. A query lies in a slot: SLOT says where in it.
 * Dots are in the query's own unit: q·p = unit · dot.
 */
export interface KernelExports extends ChecksumExports {
  memory: { readonly buffer: ArrayBufferLike; grow(pages: number): number };
  /**
   * Balances, mixes, rotates and quantises the query at `values` (float32 [dimension]) into `slot`: unit, factors, codes; and into `rotated`
   * (float64 [stride], zeros behind the dimension): T Aᵀ q̃ / unit, coordinates in −4095 … 4095. `scales`: float64 [dimension], `signs`: i8,
   * both of the basis; `mixing`: a MIXING, or 0 where nothing is mixed. With `residual` and `norm` as coarse.bin and fine.bin hold them (FORMAT.md proves it),
   *   |dot of the scan − truth|                  ≤ residualFactor · residual     + normFactor · norm
   *   |dot of the scan + dot of refine − truth|  ≤ residualFactor · fineResidual + normFactor · norm
   * where the truth is the float64 dot product of the float32 values, summed in order, divided by the unit.
   * Returns 1; or 0 where the query is orthogonal to every row by its zeros, 2 where a value is not finite, and the slot is of no use.
   */
  prepare(
    values: number,
    scales: number,
    signs: number,
    dimension: number,
    stride: number,
    rotated: number,
    slot: number,
    mixing: number,
  ): number;
  /**
   * Scans on from the slot's place, a multiple of 8, up to the place `until`, also one or the end n, and stops before where `room` for
   * entries is short, or where no place ahead can matter: `ceilings` (float64, one for each 64 places) has the longest norm from there on.
   * Keeps the k largest of dot − width and of −(dot + width) above zero in `heaps` (2 k float64 for this slot), and the slot's bounds
   * by them; with k = 0 the bounds stay as they are. Written are the entries that reach both ends' bounds, as `scan` writes them; those of earlier calls
   * may by now be excluded. Returns their number.
   */
  sweep(
    slot: number,
    until: number,
    n: number,
    k: number,
    heaps: number,
    ceilings: number,
    plane: number,
    filter: number,
    outPlaces: number,
    outPairs: number,
    room: number,
  ): number;
  /**
   * Scans coarse rows first … first + count − 1 (`first` a multiple of 8) against the query in `slot`, and writes those that may
   * matter. With
   *   dot = scale · Σ_j code_j · query_j,   width = residualFactor · residual + normFactor · norm,
   * a row may matter if dot + width > 0 and ≥ high, or dot − width < 0 and ≤ low. A kernel may first look at the query's high
   * plane alone, highFactor · norm wider, or at a row's head alone, and leave out what already that excludes.
   * `plane`: a PLANE. Where `filter` ≠ 0, only rows whose bit is set in the bitmap there take part
   * (row 0 is bit 0 of byte 0). Written are u32 places at `outPlaces` and f64 (dot, width) at `outPairs`, with room for `count` each,
   * in no particular order. Returns the number written.
   */
  scan(
    plane: number,
    first: number,
    count: number,
    slot: number,
    high: number,
    low: number,
    filter: number,
    outPlaces: number,
    outPairs: number,
  ): number;
  /**
   * For each of `count` rows (u32 at `rows`): scale · Σ_j code_j · query_j of the fine plane, the query being float64 [stride] at
   * `query`, written as f64 to `out`. `terms` and `codes`: the arrays of fine.bin.
   */
  refine(terms: number, codes: number, stride: number, rows: number, count: number, query: number, out: number): void;
  /**
   * For each of `count` rows (u32 at `rows`): Σ_j row_j · query_j in float64, j ascending; rows float32 [n][dimension], query float32.
   * `out`: room for `count` float64, rounded up to whole eights.
   */
  exact(data: number, dimension: number, rows: number, count: number, query: number, out: number): void;
  /**
   * Sweeps all places for the query in `slot`, which also lies at `values` as float32, and ranks the truths of what reaches a bound: of each end the k
   * best, k ≤ MOST_RANKED, the largest first, ties by row. `order` (u32): the row at each place; `data`: float32 rows, all n of them, or, by place, those of the first `held` places. Written are at
   * `pairs`, in 16 bytes each, f64 influence = − truth and u32 row, the helpful ones (below zero) and then the harmful ones (above), and at
   * `places` u32 how many there are of either. Returns how many truths were computed, or −1 where `room` was short or a row is not in memory, and nothing is of use.
   */
  answer(
    slot: number,
    n: number,
    k: number,
    heaps: number,
    ceilings: number,
    plane: number,
    filter: number,
    places: number,
    pairs: number,
    room: number,
    order: number,
    data: number,
    held: number,
    dimension: number,
    values: number,
  ): number;
}

/** XXH64 with seed 0 of a stream of bytes. `state`: CHECKSUM_BYTES of memory. */
export interface ChecksumExports {
  checksumBegin(state: number): void;
  /** Takes `bytes` more at `data`, a multiple of 32. */
  checksumUpdate(state: number, data: number, bytes: number): void;
  /** Takes the last ones, fewer than 32, and returns the hash, as a signed integer of 64 bits. */
  checksumEnd(state: number, data: number, bytes: number): bigint;
}
export const CHECKSUM_BYTES = 64;

/** Influences that `answer` ranks at each end: it inserts one after another. */
export const MOST_RANKED = 64;

/** The query's integer coordinates are in −QUERY_LIMIT … QUERY_LIMIT: 128 · high + low − QUERY_OFFSET, 0 ≤ high ≤ 63, 0 ≤ low ≤ 127. */
export const QUERY_LIMIT = 4095;
export const QUERY_OFFSET = 4096;
/** What stands for `low` where the high plane is used alone. */
export const MIDDLE = 63.5;

/** Offsets in a slot. Codes: high plane u8 [stride], low plane u8 [stride] for relaxed SIMD, int16 [stride] otherwise. */
export const SLOT = {
  /** f64 each. */
  unit: 0,
  residualFactor: 8,
  normFactor: 16,
  highFactor: 24,
  /** f64: the k-th largest dot − width, and the k-th largest −(dot + width); 0 before there are k above 0. */
  high: 32,
  low: 40,
  /** u32: the next place to scan, how many values each heap has, and whether a place ahead may still matter. */
  place: 48,
  highCount: 52,
  lowCount: 56,
  open: 60,
  /** f64: with the terms of divided rows, the interval of a head's dot is headScaleFactor · scale + (normFactor + headHighFactor) · norm + tailFactor · tail's norm. */
  headScaleFactor: 64,
  headHighFactor: 72,
  tailFactor: 80,
  /** u32: tails that scans have read. */
  tails: 88,
  codes: 96,
} as const;

/** Where rows lie, u32 each: the arrays of coarse.bin, its strides, and room for u32 and f64 [2] of each of PART_ROWS rows. `head` 0: rows are not divided. */
export const PLANE = {
  terms: 0,
  codes: 4,
  stride: 8,
  head: 12,
  tailTerms: 16,
  tailCodes: 20,
  leftPlaces: 24,
  leftPairs: 28,
  bytes: 32,
} as const;
export const PART_ROWS = 256;

/**
 * How a query is mixed: f64 spread (spreadOf), then u32 each: the number of blocks, their widths (u32), the columns' factors (f64), their places
 * (u32), their entries (as placeEntries of ../mixing.ts lays them out), room for 4 (R + 16) bytes, and the head's width; then room.
 */
export const MIXING = {
  spread: 0,
  blocks: 8,
  widths: 12,
  factors: 16,
  places: 20,
  entries: 24,
  integers: 28,
  head: 32,
  bytes: 80,
} as const;

export const slotBytes = (stride: number): number => SLOT.codes + 2 * stride;
