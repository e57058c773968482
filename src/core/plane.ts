/**
 * Quantised rows. coarse.bin holds int8 codes c and a scale s, so that x̂ = s·c ≈ x' = T p̃; fine.bin the same of the residual
 * x' − x̂. Each row carries norms, rounded up, from which search.ts bounds q·(x' − x̂) by Cauchy-Schwarz. In both files rows lie by
 * falling norm, so that a scan can stop where no further row is long enough to matter.
 */
import { align, HEADER_BYTES } from "./header.ts";

/** Codes are in −127 … 127. */
export const CODE_LIMIT = 127;

/**
 * Bytes of one row's terms: coarse f32 scale, f32 norm, f32 residual norm, i32 sum of codes; where rows are divided, of the head f32 scale,
 * f32 norm of the row, f32 norm of the tail, i32 sum of codes, and of the tail f32 scale, again f32 norm and f32 residual norm of the
 * row, i32 sum of codes; fine f32 scale, f32 residual norm.
 */
export const COARSE_TERMS = 16;
export const FINE_TERMS = 8;

/** Where the arrays of coarse.bin and fine.bin lie. */
export interface PlaneLayout {
  termsAt: number;
  codesAt: number;
  bytes: number;
}

/** coarse.bin also says which row lies at each place: u32 [n]. Tails have terms and codes of their own; both at 0 where rows are not divided. */
export interface CoarseLayout extends PlaneLayout {
  orderAt: number;
  tailTermsAt: number;
  tailCodesAt: number;
}

/** Codes of R coordinates are padded with zeros to whole SIMD vectors. */
export const strideOf = (dimension: number): number => Math.ceil(dimension / 16) * 16;

/**
 * coarse.bin: its rows lie in groups of four, the last group filled up with zeros. Where rows are divided, these are their heads of `head`
 * coordinates, and the tails follow, one after another, because only some of them are read.
 */
export function coarseLayout(n: number, dimension: number, head = 0): CoarseLayout {
  const termsAt = HEADER_BYTES + align(4 * n);
  const groups = Math.ceil(n / 4) * 4;
  if (head === 0) {
    const codesAt = termsAt + align(n * COARSE_TERMS);
    const bytes = codesAt + align(groups * strideOf(dimension));
    return { orderAt: HEADER_BYTES, termsAt, codesAt, tailTermsAt: 0, tailCodesAt: 0, bytes };
  }
  const tailTermsAt = termsAt + align(n * COARSE_TERMS);
  const codesAt = tailTermsAt + align(n * COARSE_TERMS);
  const tailCodesAt = codesAt + align(groups * head);
  const bytes = tailCodesAt + align(n * (strideOf(dimension) - head));
  return { orderAt: HEADER_BYTES, termsAt, codesAt, tailTermsAt, tailCodesAt, bytes };
}

/** fine.bin: its rows lie one after another, because they are read one at a time. */
export function fineLayout(n: number, dimension: number): PlaneLayout {
  const codesAt = HEADER_BYTES + align(n * FINE_TERMS);
  return { termsAt: HEADER_BYTES, codesAt, bytes: codesAt + align(n * strideOf(dimension)) };
}

/** Rows of long.f32: the longest quarter, which takes as many bytes as the fine plane of all. */
export const longRows = (n: number): number => Math.ceil(n / 4);

/**
 * Puts one row's codes ([stride]) into its place of its group of four ([4 · stride]): 16 codes of each row in turn, so that a
 * scan of four rows at once reads one stream.
 */
export function interleave(codes: Int8Array, place: number, group: Int8Array): void {
  for (let j = 0; j < codes.length; j += 16) group.set(codes.subarray(j, j + 16), 4 * j + 16 * place);
}

/** The terms of one row. Norms are upper bounds, of the row x' and x̂ both, and of what each plane leaves. */
export interface RowTerms {
  scale: number;
  norm: number;
  residual: number;
  codeSum: number;
  /** Where the row is divided, of its tail; else zeros. */
  tailScale: number;
  tailNorm: number;
  tailSum: number;
  fineScale: number;
  fineResidual: number;
}

/**
 * Quantises a rotated row into `coarse` and `fine` ([≥ R] int8, the rest untouched), its head of `head` coordinates and its tail with a
 * scale each where it is divided. `x`: [R] float64, ‖x‖ ≤ about 1; holds what both planes leave afterwards. Nothing throws: a row too
 * small for float32 scales gets codes of zero and wider bounds.
 */
export function quantiseRow(x: Float64Array, coarse: Int8Array, fine: Int8Array, head = 0): RowTerms {
  const norm = roundUp(normOf(x));
  const tailNorm = head === 0 ? 0 : roundUp(normOf(x.subarray(head)));
  const { scale, codeSum, square, least } = quantise(head === 0 ? x : x.subarray(0, head), coarse);
  const tail = head === 0 ? NO_TAIL : quantise(x.subarray(head), coarse.subarray(head));
  const coded = Math.sqrt(scale ** 2 * square + tail.scale ** 2 * tail.square);
  const residual = roundUp(normOf(x));
  const fineTerms = quantise(x, fine);
  return {
    // A head's interval follows from its scale, which therefore is not zero where its codes are and it is not.
    scale: head === 0 ? scale : Math.max(scale, least),
    norm: Math.max(norm, roundUp(coded)),
    residual,
    codeSum,
    tailScale: tail.scale,
    tailNorm,
    tailSum: tail.codeSum,
    fineScale: fineTerms.scale,
    fineResidual: roundUp(normOf(x)),
  };
}

interface Quantised {
  scale: number;
  codeSum: number;
  square: number;
  /** Where the scale is zero and x is not, twice what its coordinates may be. */
  least: number;
}

const NO_TAIL: Quantised = { scale: 0, codeSum: 0, square: 0, least: 0 };

/** Codes of x, and x ← x − scale · codes. Products are exact in float64 (24 + 7 bits). */
function quantise(x: Float64Array, codes: Int8Array): Quantised {
  let largest = 0;
  for (let j = 0; j < x.length; j++) largest = Math.max(largest, Math.abs(x[j]));
  const rounded = Math.fround(largest / CODE_LIMIT);
  const scale = rounded >= SMALLEST_NORMAL ? rounded : 0;
  if (scale === 0) {
    codes.fill(0, 0, x.length);
    return { scale, codeSum: 0, square: 0, least: largest === 0 ? 0 : 256 * SMALLEST_NORMAL };
  }
  let codeSum = 0;
  let square = 0;
  for (let j = 0; j < x.length; j++) {
    const code = Math.max(-CODE_LIMIT, Math.min(CODE_LIMIT, Math.round(x[j] / scale)));
    codes[j] = code;
    codeSum += code;
    square += code * code;
    x[j] -= scale * code;
  }
  return { scale, codeSum, square, least: 0 };
}

/** The least normal float32: below it a scale has too few bits to be of use. */
const SMALLEST_NORMAL = 2 ** -126;

function normOf(x: Float64Array): number {
  let sum = 0;
  let any = 0;
  for (let j = 0; j < x.length; j++) {
    sum += x[j] * x[j];
    any = Math.max(any, Math.abs(x[j]));
  }
  // 2⁻⁵⁰⁰ stands for squares that underflowed; it rounds up to the least float32.
  return any === 0 ? 0 : Math.sqrt(sum) + 2 ** -500;
}

/** A float32 that is no less than `value`, with 2⁻³⁰ to spare for the rounding of a norm over R ≤ 2²⁰ coordinates. */
function roundUp(value: number): number {
  if (value === 0) return 0;
  const wanted = value * (1 + 2 ** -30);
  const rounded = Math.fround(wanted);
  if (rounded >= wanted) return rounded;
  BITS.setFloat32(0, rounded);
  BITS.setUint32(0, BITS.getUint32(0) + 1);
  return BITS.getFloat32(0);
}

const BITS = new DataView(new ArrayBuffer(4));
