/** The part of an index that is held in WebAssembly memory: which planes fit, where they lie, and their loading. */
import { type Basis, basisBytes, decodeBasis } from "./basis.ts";
import { crc32 } from "./crc32.ts";
import { mixingOf, placeMixing, placePlane } from "./descriptors.ts";
import { align, checkHeader } from "./header.ts";
import { type Kernel, type KernelExports, MIXING, PART_ROWS, PLANE, slotBytes } from "./kernel/kernel.ts";
import { checkListed, loadInto } from "./load.ts";
import { FILES, type Manifest, type MixingShape } from "./manifest.ts";
import { decodeMixing, groupedBytes, mixingLayout } from "./mixing.ts";
import { COARSE_TERMS, coarseLayout, fineLayout, longRows, strideOf } from "./plane.ts";
import { CorruptIndexError, type IndexSource } from "./source.ts";

/** What is in memory beside the coarse plane: all float32 rows, a quarter of their bytes, or nothing. */
export type Tier = "rows" | "fine" | "coarse";

/** What the tier "fine" holds: the fine plane, or, where few rows are long, the longest rows as float32. */
export type Held = Tier | "long";

/** Rows beyond the longest quarter have at most this share of Σ norm²: then answers lie within the quarter. */
const SHORT_SHARE = 0.05;

/** Rows of the source kept in memory between queries, where rows are not resident. */
export const KEPT_BYTES = 2 * 1024 * 1024;
/** Rows that one call of the kernel takes at most. */
export const CHUNK_ROWS = 1024;
/** Places after which a scan looks whether it may stop: STEP of kernel/assembly/sweep.ts. */
export const STEP_ROWS = 64;
/** Values that the heaps of all slots may hold together: 2 k for each query of a scan. */
export const HEAP_VALUES = 16_384;
/** Queries whose coordinates the kernel's memory holds at once. */
export const QUERIES_AT_ONCE = 256;

/** An index that does not fit the memory it may use. */
export class BudgetError extends RangeError {
  readonly needed: number;
  readonly budget: number;
  constructor(n: number, dimension: number, needed: number, budget: number) {
    super(
      `index of ${n} rows, R = ${dimension}: expected at most ${budget} bytes resident, needs ${needed}; ` +
        `choose a smaller R, fewer rows or a larger budget`,
    );
    this.name = "BudgetError";
    this.needed = needed;
    this.budget = budget;
  }
}

/** Addresses in the kernel's memory, in bytes. Scratch first, then the files as they are. */
export interface Addresses {
  /** QUERIES_AT_ONCE slots. */
  slots: number;
  /** f64 [HEAP_VALUES]: the best so far of the queries in their slots, 2 k each. */
  heaps: number;
  /** One query: float32 [stride] as asked, float64 [stride] balanced and rotated. */
  values: number;
  rotated: number;
  /** u32 [CHUNK_ROWS] and f64 [CHUNK_ROWS][2]. */
  rowList: number;
  pairs: number;
  /** A PLANE, and the room that it names. */
  plane: number;
  leftPlaces: number;
  leftPairs: number;
  /** f64 [R], of the basis. */
  scales: number;
  /** f64 [⌈n / STEP_ROWS⌉]: the longest norm at the places from step · STEP_ROWS on. */
  ceilings: number;
  /** Bitmap of n rows. */
  filter: number;
  basis: number;
  /** A MIXING, and what it names beside mixing.bin; 0 where nothing is mixed. */
  mixing: number;
  widths: number;
  factors: number;
  integers: number;
  places: number;
  entries: number;
  checksums: number;
  coarse: number;
  /** Of fine.bin or rows.f32, by tier. */
  second: number;
  /** Bytes of the memory, in whole pages. */
  memoryBytes: number;
  /** Bytes held in all: the memory, and rows of the source kept between queries. */
  end: number;
}

/** Address 0 means none. */
const FIRST_ADDRESS = 1024;
const PAGE = 65536;
/** A 32-bit memory ends here. */
const MEMORY_LIMIT = 2 ** 32 - PAGE;

/** `longest`: rows of long.f32 held beside the coarse plane alone. */
export function addressesOf(
  n: number,
  dimension: number,
  tier: Tier,
  longest = 0,
  mixing: MixingShape | null = null,
): Addresses {
  const stride = strideOf(dimension);
  const head = mixing?.head ?? 0;
  let at = FIRST_ADDRESS;
  const take = (bytes: number) => {
    const address = at;
    at += align(bytes);
    return address;
  };
  const takeMixed = (bytes: number) => (mixing === null ? 0 : take(bytes));
  const addresses = {
    slots: take(QUERIES_AT_ONCE * slotBytes(stride)),
    heaps: take(8 * HEAP_VALUES),
    values: take(4 * stride),
    rotated: take(8 * stride),
    rowList: take(4 * CHUNK_ROWS),
    pairs: take(16 * CHUNK_ROWS),
    plane: take(PLANE.bytes),
    leftPlaces: takeMixed(4 * PART_ROWS),
    leftPairs: takeMixed(16 * PART_ROWS),
    scales: take(8 * dimension),
    ceilings: take(8 * Math.ceil(n / STEP_ROWS)),
    filter: take(Math.ceil(n / 8) + 16),
    basis: take(basisBytes(dimension, head)),
    mixing: takeMixed(MIXING.bytes),
    widths: takeMixed(4 * (mixing?.blocks.length ?? 0)),
    factors: takeMixed(8 * dimension),
    integers: takeMixed(4 * (dimension + 16)),
    places: takeMixed(4 * dimension),
    entries: takeMixed(mixing === null ? 0 : groupedBytes(mixing.blocks)),
    checksums: take(tier === "rows" ? 0 : 4 * n),
    coarse: take(coarseLayout(n, dimension, head).bytes),
    second: take(secondBytes(n, dimension, tier, longest)),
  };
  const memoryBytes = Math.ceil(at / PAGE) * PAGE;
  return { ...addresses, memoryBytes, end: memoryBytes + (tier === "rows" ? 0 : KEPT_BYTES) };
}

function secondBytes(n: number, dimension: number, tier: Tier, longest: number): number {
  if (tier === "rows") return 4 * n * dimension;
  if (tier === "coarse") return 4 * longest * dimension;
  return Math.max(fineLayout(n, dimension).bytes, 4 * longRows(n) * dimension);
}

/** Whether so much memory may be taken: of the budget, and of what a 32-bit memory can address. */
export const fitsIn = ({ end, memoryBytes }: Addresses, budgetBytes: number): boolean =>
  end <= budgetBytes && memoryBytes <= MEMORY_LIMIT;

/** The richest tier that fits `budgetBytes`. Throws BudgetError if not even the coarse plane does. */
export function chooseTier(n: number, dimension: number, budgetBytes: number, mixing: MixingShape | null = null): Tier {
  const addresses = (tier: Tier) => addressesOf(n, dimension, tier, 0, mixing);
  for (const tier of ["rows", "fine", "coarse"] as const) if (fitsIn(addresses(tier), budgetBytes)) return tier;
  throw new BudgetError(n, dimension, addresses("coarse").end, Math.min(budgetBytes, MEMORY_LIMIT));
}

/** What of an index fits `budgetBytes`, and the bytes it takes. Throws BudgetError. */
export function fitting(
  n: number,
  dimension: number,
  budgetBytes: number,
  mixing: MixingShape | null = null,
): { tier: Tier; longest: number; bytes: number } {
  const tier = chooseTier(n, dimension, budgetBytes, mixing);
  const room = Math.min(budgetBytes, MEMORY_LIMIT) - addressesOf(n, dimension, tier, 0, mixing).end - PAGE;
  const longest = tier === "coarse" ? Math.min(longRows(n), Math.max(0, Math.floor(room / (4 * dimension)))) : 0;
  return { tier, longest, bytes: addressesOf(n, dimension, tier, longest, mixing).end };
}

export interface Resident {
  n: number;
  dimension: number;
  /** Coordinates of a row's head; 0 where rows are not divided. */
  head: number;
  held: Held;
  /** Float32 rows are in memory for the places below this. */
  exact: number;
  at: Addresses;
  kernel: KernelExports;
  /** The kernel's memory, which grows no more. */
  floats: Float32Array;
  doubles: Float64Array;
  words: Uint32Array;
  basis: Basis;
  /** [n] the row at each place of the planes. */
  order: Uint32Array;
  /** [n] CRC-32 of each row of rows.f32; empty where the rows are resident. */
  checksums: Uint32Array;
}

/**
 * Loads what the tier holds, each file verified as it streams into place; beside the coarse plane alone, the `longest` rows.
 * Throws CorruptIndexError.
 */
export async function loadResident(
  manifest: Manifest,
  source: IndexSource,
  host: Kernel,
  tier: Tier,
  longest = 0,
): Promise<Resident> {
  const { n, dimension } = manifest;
  const mixing = mixingOf(manifest);
  const head = mixing?.head ?? 0;
  const at = addressesOf(n, dimension, tier, longest, mixing);
  const kernel = host.instantiate();
  kernel.memory.grow(at.memoryBytes / PAGE - kernel.memory.buffer.byteLength / PAGE);
  const bytes = (address: number, length: number) => new Uint8Array(kernel.memory.buffer, address, length);
  const load = async (file: string, address: number, length: number) => {
    const target = bytes(address, length);
    await loadInto(manifest, source, file, host, target);
    return target;
  };

  const stride = strideOf(dimension);
  const coarse = coarseLayout(n, dimension, head);
  const fine = fineLayout(n, dimension).bytes;
  const readBasis = async () =>
    decodeBasis(FILES.basis, await load(FILES.basis, at.basis, basisBytes(dimension, head)), n, dimension, head);
  const readMixing = async () => {
    if (mixing === null) return;
    const file = new Uint8Array(mixingLayout(mixing.blocks).bytes);
    await loadInto(manifest, source, FILES.mixing, host, file);
    placeMixing(kernel, at, mixing.head, decodeMixing(FILES.mixing, file, n, mixing));
  };
  const readCoarse = async () => {
    const kind = "coarse";
    checkHeader(FILES.coarse, await load(FILES.coarse, at.coarse, coarse.bytes), { kind, n, dimension, stride });
  };
  // All rows, or what each of them is checked by: known to be needed before it is known what else is.
  const readRows = () =>
    tier === "rows" ? load(FILES.rows, at.second, 4 * n * dimension) : load(FILES.rowChecksums, at.checksums, 4 * n);
  // While one is waited for, others are checked and laid out.
  const [basis] = await Promise.all([readBasis(), readMixing(), readCoarse(), readRows()]);
  checkListed(manifest, FILES.fine, fine);
  checkListed(manifest, FILES.long, 4 * longRows(n) * dimension);
  checkListed(manifest, FILES.rows, 4 * n * dimension);
  const checksums = new Uint32Array(kernel.memory.buffer, at.checksums, tier === "rows" ? 0 : n);
  const { orderAt, termsAt } = coarse;
  const order = new Uint32Array(kernel.memory.buffer, at.coarse + orderAt, n);
  const unknown = order.find((row) => row >= n);
  if (unknown !== undefined) throw new CorruptIndexError(FILES.coarse, `rows of 0 … ${n - 1}`, `row ${unknown}`);
  const terms = new Float32Array(kernel.memory.buffer, at.coarse + termsAt, (n * COARSE_TERMS) / 4);
  const held = tier === "fine" && fewAreLong(terms) ? "long" : tier;
  if (held === "long") await load(FILES.long, at.second, 4 * longRows(n) * dimension);
  if (held === "fine") {
    checkHeader(FILES.fine, await load(FILES.fine, at.second, fine), { kind: "fine", n, dimension, stride });
  }
  if (held === "coarse") {
    await loadLongest(source, bytes(at.second, 4 * longest * dimension), order.subarray(0, longest), checksums);
  }
  const exact = { rows: n, long: longRows(n), fine: 0, coarse: longest }[held];
  const { buffer } = kernel.memory;
  const [floats, doubles, words] = [new Float32Array(buffer), new Float64Array(buffer), new Uint32Array(buffer)];
  placePlane(words, at, coarse, stride, head);
  doubles.set(basis.scales, at.scales / 8);
  doubles.set(ceilingsOf(terms), at.ceilings / 8);
  return { n, dimension, head, held, exact, at, kernel, floats, doubles, words, basis, order, checksums };
}

function fewAreLong(terms: Float32Array): boolean {
  const n = terms.length / 4;
  let all = 0;
  let short = 0;
  for (let place = 0; place < n; place++) {
    const square = terms[4 * place + 1] ** 2;
    all += square;
    if (place >= longRows(n)) short += square;
  }
  return short <= SHORT_SHARE * all;
}

/** [⌈n / STEP_ROWS⌉] the longest norm at the places from step · STEP_ROWS on. */
function ceilingsOf(terms: Float32Array): Float64Array {
  const n = terms.length / 4;
  const ceilings = new Float64Array(Math.ceil(n / STEP_ROWS));
  let longest = 0;
  for (let place = n - 1; place >= 0; place--) {
    longest = Math.max(longest, terms[4 * place + 1]);
    if (place % STEP_ROWS === 0) ceilings[place / STEP_ROWS] = longest;
  }
  return ceilings;
}

/** The first rows of long.f32, each checked by its CRC-32, because a part of a file has no checksum of its own. `rows`: which rows they are. */
async function loadLongest(
  source: IndexSource,
  target: Uint8Array,
  rows: Uint32Array,
  checksums: Uint32Array,
): Promise<void> {
  const rowBytes = target.length / rows.length;
  if (rows.length === 0) return;
  let at = 0;
  for await (const chunk of await source.stream(FILES.long, { offset: 0, length: target.length })) {
    target.set(chunk, at);
    at += chunk.length;
  }
  if (at !== target.length) throw new CorruptIndexError(FILES.long, `at least ${target.length} bytes`, `${at}`);
  rows.forEach((row, place) => {
    const got = crc32(target.subarray(place * rowBytes, (place + 1) * rowBytes));
    if (got === checksums[row]) return;
    throw new CorruptIndexError(FILES.long, `crc32 ${checksums[row]} of row ${row} at place ${place}`, `${got}`);
  });
}
