/**
 * The basis in which rows quantise well. For any invertible A, q·p = (Aᵀq)·(A⁻¹p); here A = S·Tᵀ:
 *
 *   rows   p̃_j = p_j / s_j     queries   q̃_j = q_j · s_j     both then x' = T x̃
 *
 * S balances: s_j = (E p_j² / E g̃_j²)^¼ rounded to a power of two, so that scaling rounds nothing. T rotates: it is orthogonal,
 * made of random signs and Walsh-Hadamard transforms, and spreads every row evenly over the coordinates.
 */
import { ALIGNMENT, align, checkHeader, encodeHeader, HEADER_BYTES } from "./header.ts";
import { random } from "./random.ts";
import { CorruptIndexError } from "./source.ts";

export interface Basis {
  dimension: number;
  /** [R] int16: p̃_j = p_j · 2^(−exponent_j); DROPPED where every row is zero, so that the query's coordinate has no effect. */
  exponents: Int16Array;
  /** [R] s_j = 2^exponent_j, by which a query is multiplied; 0 where dropped. */
  scales: Float64Array;
  /** Walsh-Hadamard transforms, applied one after another. */
  passes: readonly Pass[];
  /** [Σ width] +1 or −1: the signs that each transform applies first. */
  signs: Int8Array;
}

/** Over which coordinates a transform goes: `width`, a power of two, from `start`. */
interface Pass {
  start: number;
  width: number;
}

export const DROPPED = -32768;

/**
 * The balance: exponents of s_j, shifted by one common power of two so that every row's norm ‖p̃‖ ≤ 1.
 * `rowSquares` [R]: Σ_i p_ij². `queryMeanSquare` [R]: E g̃_j²; where it is zero or not finite, its mean over the others stands in.
 */
export function balance(rowSquares: Float64Array, queryMeanSquare: Float64Array, n: number): Int16Array {
  const usable = queryMeanSquare.filter((value) => value > 0 && Number.isFinite(value));
  const typical = usable.reduce((sum, value) => sum + value / usable.length, 0) || 1;
  const exponents = Int16Array.from(rowSquares, (sum, j) => {
    if (sum === 0) return DROPPED;
    const query = queryMeanSquare[j];
    const ratio = Math.max(sum / n / (query > 0 && Number.isFinite(query) ? query : typical), Number.MIN_VALUE);
    // round(log₂(ratio) / 4) needs only the exponent of the ratio: its mantissa adds less than one.
    return Math.floor((exponentOf(ratio) + 2) / 4);
  });
  // Σ_ij p̃_ij² bounds every ‖p̃_i‖².
  const total = rowSquares.reduce((sum, square, j) => (square === 0 ? sum : sum + square * 4 ** -exponents[j]), 0);
  const shift = total === 0 ? 0 : Math.ceil((exponentOf(total) + 1) / 2);
  return exponents.map((exponent) => (exponent === DROPPED ? DROPPED : exponent + shift));
}

/** ⌊log₂ value⌋ of a positive number. */
export function exponentOf(value: number): number {
  const high = new DataView(new ArrayBuffer(8));
  high.setFloat64(0, value);
  const biased = high.getUint32(0) >>> 20;
  return biased === 0 ? exponentOf(value * 2 ** 60) - 60 : biased - 1023;
}

/** The most coordinates for which the scan's 32-bit sums cannot overflow. */
export const MOST_COORDINATES = 131072;

/** The rotation of R coordinates, the first `head` and the others each for themselves, that `seed` draws. Throws RangeError if R is too large for the scan. */
export function drawBasis(exponents: Int16Array, seed: number | string, head = 0): Basis {
  const dimension = exponents.length;
  if (dimension > MOST_COORDINATES) {
    throw new RangeError(`R: expected at most ${MOST_COORDINATES}, got ${dimension}; keep fewer coordinates`);
  }
  const passes = passesOf(dimension, head);
  const generator = random(seed, "basis");
  const signs = Int8Array.from({ length: signCount(passes) }, () => (generator.below(2) === 0 ? 1 : -1));
  return { dimension, exponents, scales: scalesOf(exponents), passes, signs };
}

const scalesOf = (exponents: Int16Array): Float64Array =>
  Float64Array.from(exponents, (exponent) => (exponent === DROPPED ? 0 : 2 ** exponent));

/**
 * One transform where R is a power of two. Otherwise three of the largest power of two below R: over its first, its last and
 * its middle coordinates; the middle one mixes what the first two each spread over their own part.
 */
function transforms(from: number, dimension: number): Pass[] {
  const width = 2 ** (31 - Math.clz32(dimension));
  const rest = dimension - width;
  const starts = rest === 0 ? [0] : [0, rest, rest >> 1];
  return starts.map((start) => ({ start: from + start, width }));
}

const passesOf = (dimension: number, head: number): Pass[] =>
  head === 0 ? transforms(0, dimension) : [...transforms(0, head), ...transforms(head, dimension - head)];

const signCount = (passes: readonly Pass[]): number => passes.reduce((sum, { width }) => sum + width, 0);

/** x ← T x, in place. `x`: [R] float64. Relative error ≤ passes · (log₂ width + 2) · 2⁻⁵³ in the norm (FORMAT.md). */
export function rotate(basis: Basis, x: Float64Array): void {
  const { passes, signs } = basis;
  let at = 0;
  for (const { start, width } of passes) {
    const normal = 1 / Math.sqrt(width);
    for (let j = 0; j < width; j++) x[start + j] *= signs[at + j] * normal;
    walshHadamard(x, start, width);
    at += width;
  }
}

/** Two levels of butterflies at a time, which halves the reads and writes; sums are those of one level after another. */
function walshHadamard(x: Float64Array, start: number, width: number): void {
  const end = start + width;
  let half = 1;
  for (; 2 * half < width; half *= 4) {
    for (let block = start; block < end; block += 4 * half) {
      for (let j = block; j < block + half; j++) {
        const a = x[j] + x[j + half];
        const b = x[j] - x[j + half];
        const c = x[j + 2 * half] + x[j + 3 * half];
        const d = x[j + 2 * half] - x[j + 3 * half];
        x[j] = a + c;
        x[j + half] = b + d;
        x[j + 2 * half] = a - c;
        x[j + 3 * half] = b - d;
      }
    }
  }
  if (half === width) return;
  for (let j = start; j < start + half; j++) {
    const a = x[j];
    const b = x[j + half];
    x[j] = a + b;
    x[j + half] = a - b;
  }
}

/** Where the signs lie in basis.bin. */
export const signsAt = (dimension: number): number => HEADER_BYTES + align(2 * dimension);

/** The length of basis.bin: a header, int16 exponents [R], int8 signs. */
export function basisBytes(dimension: number, head = 0): number {
  return signsAt(dimension) + align(signCount(passesOf(dimension, head)));
}

/** basis.bin. */
export function encodeBasis(basis: Basis, n: number): Uint8Array {
  const bytes = new Uint8Array(signsAt(basis.dimension) + align(basis.signs.length));
  bytes.set(encodeHeader({ kind: "basis", n, dimension: basis.dimension, stride: 0 }));
  const view = new DataView(bytes.buffer);
  basis.exponents.forEach((exponent, j) => {
    view.setInt16(HEADER_BYTES + 2 * j, exponent, true);
  });
  bytes.set(new Uint8Array(basis.signs.buffer, basis.signs.byteOffset, basis.signs.length), signsAt(basis.dimension));
  return bytes;
}

/** Reads basis.bin; views into `bytes`, which must start at a multiple of 64 in its buffer. Throws CorruptIndexError. */
export function decodeBasis(file: string, bytes: Uint8Array, n: number, dimension: number, head = 0): Basis {
  checkHeader(file, bytes, { kind: "basis", n, dimension, stride: 0 });
  const passes = passesOf(dimension, head);
  const length = basisBytes(dimension, head);
  if (dimension > MOST_COORDINATES) throw new CorruptIndexError(file, `R ≤ ${MOST_COORDINATES}`, `${dimension}`);
  if (bytes.length !== length) throw new CorruptIndexError(file, `${length} bytes`, `${bytes.length}`);
  if (bytes.byteOffset % ALIGNMENT !== 0) throw new RangeError(`${file}: expected bytes aligned to ${ALIGNMENT}`);
  const exponents = new Int16Array(bytes.buffer, bytes.byteOffset + HEADER_BYTES, dimension);
  const signs = new Int8Array(bytes.buffer, bytes.byteOffset + signsAt(dimension), signCount(passes));
  if (signs.some((sign) => sign !== 1 && sign !== -1))
    throw new CorruptIndexError(file, "signs of +1 or −1", "another");
  return { dimension, exponents, scales: scalesOf(exponents), passes, signs };
}
