/** The kernel in plain TypeScript: what the compiled ones must compute. */
import { type Basis, rotate } from "../../src/core/basis.ts";
import {
  type ChecksumExports,
  type KernelExports,
  MIDDLE,
  QUERY_LIMIT,
  QUERY_OFFSET,
  SLOT,
} from "../../src/core/kernel/kernel.ts";
import { columnBytes, type Mixing } from "../../src/core/mixing.ts";

/** Kernel functions over a memory of their own; a slot's codes are int16, and rows are not divided. What `sweep` must find follows from `scan`, and what `answer` must from that and `exact`. */
export function plainKernel(): Omit<KernelExports, "prepare" | "sweep" | "answer" | keyof ChecksumExports> {
  let bytes = new Uint8Array(65536);
  const memory = {
    get buffer() {
      return bytes.buffer;
    },
    grow(pages: number) {
      const larger = new Uint8Array(bytes.length + pages * 65536);
      larger.set(bytes);
      const before = bytes.length / 65536;
      bytes = larger;
      return before;
    },
  };
  const f64 = (at: number, count: number) => new Float64Array(bytes.buffer, at, count);
  const f32 = (at: number, count: number) => new Float32Array(bytes.buffer, at, count);
  const i8 = (at: number, count: number) => new Int8Array(bytes.buffer, at, count);
  const u32 = (at: number, count: number) => new Uint32Array(bytes.buffer, at, count);
  return {
    memory,
    scan(plane, first, count, slot, high, low, filter, outPlaces, outPairs) {
      const [terms, codes, stride] = u32(plane, 3);
      const wide = new Int16Array(bytes.buffer, slot + SLOT.codes, stride);
      const [residualFactor, normFactor] = f64(slot + SLOT.residualFactor, 2);
      const rows = u32(outPlaces, count);
      const pairs = f64(outPairs, 2 * count);
      let written = 0;
      for (let row = first; row < first + count; row++) {
        if (filter !== 0 && ((bytes[filter + (row >> 3)] >> (row & 7)) & 1) === 0) continue;
        const [scale, norm, residual] = f32(terms + 16 * row, 3);
        const group = i8(codes + 4 * stride * (row >> 2), 4 * stride);
        let sum = 0;
        for (let j = 0; j < stride; j++) sum += group[64 * (j >> 4) + 16 * (row & 3) + (j & 15)] * wide[j];
        const dot = scale * sum;
        const width = residualFactor * residual + normFactor * norm;
        const above = dot + width;
        const below = dot - width;
        if (!((above > 0 && above >= high) || (below < 0 && below <= low))) continue;
        rows[written] = row;
        pairs[2 * written] = dot;
        pairs[2 * written + 1] = width;
        written++;
      }
      return written;
    },
    refine(terms, codes, stride, rows, count, query, out) {
      const values = f64(query, stride);
      const dots = f64(out, count);
      u32(rows, count).forEach((row, index) => {
        const code = i8(codes + stride * row, stride);
        let sum = 0;
        for (let j = 0; j < stride; j++) sum += code[j] * values[j];
        dots[index] = f32(terms + 8 * row, 1)[0] * sum;
      });
    },
    exact(data, dimension, rows, count, query, out) {
      const list = u32(rows, count);
      const values = f32(query, dimension);
      const dots = f64(out, count);
      list.forEach((row, index) => {
        const entries = f32(data + 4 * dimension * row, dimension);
        let sum = 0;
        for (let j = 0; j < dimension; j++) sum += entries[j] * values[j];
        dots[index] = sum;
      });
    },
  };
}

/** A mixing, and how many of the mixed coordinates are the head. */
export interface Divided {
  mixing: Mixing;
  head: number;
}

/**
 * The query as `prepare` must leave it; `mixingLoss` is what its normFactor has beside for the mixing. Throws where a value is not
 * finite; null where the query is zero for every row.
 */
export function plainQuery(basis: Basis, gradient: Float32Array, divided: Divided | null = null) {
  const balanced = Float64Array.from(gradient, (value, j) => value * basis.scales[j]);
  const largest = balanced.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (largest === 0) return null;
  const near = 2 ** Math.floor(Math.log2(largest));
  const scaled = balanced.map((value) => value / near);
  const integers = scaled.map((value) => nearest(value * UNITS));
  const rotated = divided === null ? scaled.slice() : plainMix(divided.mixing, integers).map((value) => value / UNITS);
  rotate(basis, rotated);
  const step = rotated.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / QUERY_LIMIT;
  const lost = Math.hypot(...scaled.map((value, j) => value - integers[j] / UNITS));
  const relative = 2 ** -30 + gradient.length * 2 ** -53;
  return {
    ...plainFactors(
      rotated.map((value) => value / step),
      divided?.head,
    ),
    unit: step * near,
    mixingLoss:
      divided === null ? 0 : (greatestNorm(divided.mixing) * (lost + relative * Math.hypot(...scaled))) / step,
  };
}

/** The integers that a query's coordinates become before they are mixed are of this many units: 28 bits for what is below two. */
const UNITS = 2 ** 27;

/** The integer nearest to `value`, of two the even one. */
function nearest(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** A query in units of its step, as integers, and the factors of its intervals: of whole rows, and of heads. */
export function plainFactors(inUnits: Float64Array, head = 0) {
  const codes = Int16Array.from(inUnits, Math.round);
  const norm = (of: (value: number, j: number) => number) => Math.hypot(...Array.from(inUnits, of));
  const lower = (j: number) => ((codes[j] + QUERY_OFFSET) & 127) - MIDDLE;
  const headNorm = norm((value, j) => (j < head ? value : 0));
  return {
    rotated: inUnits,
    codes,
    residualFactor: norm((value) => value),
    normFactor: norm((value, j) => value - codes[j]),
    highFactor: norm((_, j) => lower(j)),
    headScaleFactor: 0.50001 * headNorm * Math.sqrt(head),
    headHighFactor: norm((_, j) => (j < head ? lower(j) : 0)),
    tailFactor: norm((value, j) => (j < head ? 0 : value)),
  };
}

/** Aᵀ x, each coordinate at its place. */
export function plainMix(mixing: Mixing, x: Float64Array): Float64Array {
  const mixed = new Float64Array(x.length);
  for (const { column, first, entries } of columnsOf(mixing)) {
    const sum = entries.reduce((before, entry, i) => before + entry * x[first + i], 0);
    mixed[mixing.places[column]] = sum * 2 ** mixing.exponents[column];
  }
  return mixed;
}

/** The greatest Frobenius norm of a block. */
function greatestNorm(mixing: Mixing): number {
  const squares = new Map<number, number>();
  for (const { column, first, entries } of columnsOf(mixing)) {
    const square = entries.reduce((sum, entry) => sum + entry ** 2, 0) * 4 ** mixing.exponents[column];
    squares.set(first, (squares.get(first) ?? 0) + square);
  }
  return Math.sqrt(Math.max(...squares.values()));
}

/** Each column of a mixing: its number, the first coordinate of its block, and its entries, one for each coordinate of that. */
function* columnsOf({ blocks, entries }: Mixing) {
  let first = 0;
  let at = 0;
  for (const width of blocks) {
    for (let j = 0; j < width; j++, at += columnBytes(width)) {
      yield { column: first + j, first, entries: Float64Array.from(entries.subarray(at, at + width)) };
    }
    first += width;
  }
}
