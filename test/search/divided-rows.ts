/** Divided rows and a query in a kernel's memory, as FORMAT.md and KernelExports draw them, for tests. */
import { type KernelExports, PART_ROWS, PLANE, QUERY_OFFSET, SLOT, slotBytes } from "../../src/core/kernel/kernel.ts";
import { interleave, quantiseRow, type RowTerms, strideOf } from "../../src/core/plane.ts";
import { reaches } from "../../src/core/topk.ts";
import type { plainFactors } from "./plain-kernel.ts";

export interface DividedRow {
  /** [R] as it was before it was quantised. */
  values: Float64Array;
  /** [stride] */
  codes: Int8Array;
  terms: RowTerms;
}

export type Query = ReturnType<typeof plainFactors> & { head: number };

/** What a kernel writes of a row. */
export interface Found {
  row: number;
  dot: number;
  width: number;
}

export function divide(values: Float64Array, head: number): DividedRow {
  const codes = new Int8Array(strideOf(values.length));
  return { values, codes, terms: quantiseRow(values.slice(), codes, new Int8Array(codes.length), head) };
}

/** Bytes behind each room that a kernel writes to: they must stay as they are. */
const GUARD = 64;
const GUARDED = 0xa5;

/**
 * Lays out `rows` and `query`. Returns a scan of some rows, those that are `chosen` or all, and a sweep of all for the k best with
 * `room` for entries; both say how many tails they read. Memory that nothing was laid in is not zero.
 */
export function layRows(
  kernel: Pick<KernelExports, "memory" | "scan" | "sweep">,
  rows: DividedRow[],
  query: Query,
  relaxed: boolean,
) {
  const n = rows.length;
  const { head } = query;
  const stride = rows[0].codes.length;
  const guards: number[] = [];
  let end = 4096;
  const take = (bytes: number, guarded = false) => {
    const address = end;
    if (guarded) guards.push(address + bytes);
    end = Math.ceil((address + bytes + GUARD) / 64) * 64;
    return address;
  };
  const at = {
    plane: take(PLANE.bytes),
    slot: take(slotBytes(stride)),
    terms: take(16 * n),
    tailTerms: take(16 * n),
    codes: take(4 * Math.ceil(n / 4) * head),
    tailCodes: take(n * (stride - head)),
    filter: take(Math.ceil(n / 8) + 16),
    ceilings: take(8 * Math.ceil(n / 64)),
    heaps: take(16 * n),
    leftPlaces: take(4 * PART_ROWS, true),
    leftPairs: take(16 * PART_ROWS, true),
    places: take(4 * n, true),
    pairs: take(16 * n, true),
  };
  kernel.memory.grow(Math.ceil(end / 65536));
  const { buffer } = kernel.memory;
  const view = new DataView(buffer);
  new Uint8Array(buffer, 4096, end - 4096).fill(0x7f);
  for (const guard of guards) new Uint8Array(buffer, guard, GUARD).fill(GUARDED);
  const plane = { ...at, stride, head };
  for (const name of [
    "terms",
    "codes",
    "stride",
    "head",
    "tailTerms",
    "tailCodes",
    "leftPlaces",
    "leftPairs",
  ] as const) {
    view.setUint32(at.plane + PLANE[name], plane[name], true);
  }
  const ceilings = new Float64Array(buffer, at.ceilings, Math.ceil(n / 64));
  for (const [row, { codes, terms }] of rows.entries()) {
    const layTerms = (address: number, floats: number[], sum: number) => {
      for (const [index, float] of floats.entries()) view.setFloat32(address + 16 * row + 4 * index, float, true);
      view.setInt32(address + 16 * row + 12, sum, true);
    };
    layTerms(at.terms, [terms.scale, terms.norm, terms.tailNorm], terms.codeSum);
    layTerms(at.tailTerms, [terms.tailScale, terms.norm, terms.residual], terms.tailSum);
    const group = new Int8Array(buffer, at.codes + head * (row - (row % 4)), 4 * head);
    interleave(codes.subarray(0, head), row % 4, group);
    new Int8Array(buffer, at.tailCodes + (stride - head) * row, stride - head).set(codes.subarray(head));
    // Rows go by falling norm where they are swept.
    if (row % 64 === 0) ceilings[row / 64] = terms.norm;
  }
  laySlot(view, at.slot, query, relaxed, stride);
  const tailsRead = () => view.getUint32(at.slot + SLOT.tails, true);
  const written = (count: number): Found[] => {
    for (const guard of guards) {
      if (!new Uint8Array(buffer, guard, GUARD).every((byte) => byte === GUARDED))
        throw new Error("wrote past its room");
    }
    const pairs = new Float64Array(buffer, at.pairs, 2 * count);
    const places = [...new Uint32Array(buffer, at.places, count)];
    return places.map((row, entry) => ({ row, dot: pairs[2 * entry], width: pairs[2 * entry + 1] }));
  };

  const scan = (first: number, count: number, high: number, low: number, chosen: ((row: number) => boolean) | null) => {
    const filter = new Uint8Array(buffer, at.filter, Math.ceil(n / 8)).fill(0);
    for (let row = 0; row < n; row++) if (chosen?.(row)) filter[row >> 3] |= 1 << (row & 7);
    const before = tailsRead();
    const filterAt = chosen === null ? 0 : at.filter;
    const found = written(kernel.scan(at.plane, first, count, at.slot, high, low, filterAt, at.places, at.pairs));
    return { found, tails: tailsRead() - before };
  };
  const sweep = (k: number, room: number) => {
    const before = tailsRead();
    const word = (offset: number) => view.getUint32(at.slot + offset, true);
    const bound = (offset: number) => view.getFloat64(at.slot + offset, true);
    const swept: Found[] = [];
    view.setUint32(at.slot + SLOT.open, 1, true);
    while (word(SLOT.open) === 1) {
      const count = kernel.sweep(at.slot, n, n, k, at.heaps, at.ceilings, at.plane, 0, at.places, at.pairs, room);
      swept.push(...written(count));
    }
    const [high, low] = [bound(SLOT.high), bound(SLOT.low)];
    const found = swept.filter(({ dot, width }) => reaches(dot, width, high, -low));
    return { found, high, low, scanned: word(SLOT.place), tails: tailsRead() - before };
  };
  return Object.assign(scan, { sweep });
}

/** A query's factors and codes, as `prepare` leaves them for a kernel; nothing scanned yet. */
function laySlot(view: DataView, slot: number, query: Query, relaxed: boolean, stride: number): void {
  new Uint8Array(view.buffer, slot, SLOT.codes).fill(0);
  view.setFloat64(slot + SLOT.unit, 1, true);
  for (const factor of ["residualFactor", "normFactor", "highFactor"] as const) {
    view.setFloat64(slot + SLOT[factor], query[factor], true);
  }
  for (const factor of ["headScaleFactor", "headHighFactor", "tailFactor"] as const) {
    view.setFloat64(slot + SLOT[factor], query[factor], true);
  }
  for (let j = 0; j < stride; j++) {
    const code = query.codes[j] ?? 0;
    if (relaxed) {
      view.setUint8(slot + SLOT.codes + j, (code + QUERY_OFFSET) >> 7);
      view.setUint8(slot + SLOT.codes + stride + j, (code + QUERY_OFFSET) & 127);
    } else {
      view.setInt16(slot + SLOT.codes + 2 * j, code, true);
    }
  }
}
