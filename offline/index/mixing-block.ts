/**
 * One block of the mixing (src/core/mixing.ts): a matrix A in which typical queries and rows are both short. For second moments
 * C_q of queries and C_p of rows, with C_q = L Lᵀ and Lᵀ C_p L = X Σ² Xᵀ, A = L⁻ᵀ X Σ^½ makes both moments diagonal and equal:
 * E y yᵀ = Aᵀ C_q A = Σ and E z zᵀ = A⁻¹ C_p A⁻ᵀ = Σ. A is then rounded to int8, and the rows get the inverse of what is left,
 * so that rounding costs nothing but a little length.
 */
import { LuDecomposition, Matrix } from "ml-matrix";
import { exponentOf } from "../../src/core/basis.ts";
import { columnBytes, LOSS } from "../../src/core/mixing.ts";
import { eigenpairs } from "../compress/eigenvectors.ts";
import { cholesky, lowerInverse } from "../hessian/cholesky.ts";
import { rowProducts } from "./row-products.ts";

/** Off-diagonal moments count that much less: of a sample they are partly noise. */
const SHRINKAGE = 0.02;
/** Part of the mean variance that is added to each: no direction is so rare that it may be stretched without limit. */
const FLOOR = 1e-4;
/** Blocks that carry less of the typical vectors' squared length, 1, than this are left alone: products would underflow. */
const LEAST_TRACE = 2 ** -200;

export interface MixingBlock {
  width: number;
  /** [w]: column j of A is its entries · 2^exponent. */
  exponents: Int16Array;
  /** [w, columnBytes(w)]: A's columns, padded with zeros. */
  entries: Int8Array;
  /** [w, w] row-major: A⁻¹. */
  inverse: Float64Array;
  /** [w]: √(E y_j² E z_j²). */
  energies: Float64Array;
}

/**
 * The block for second moments of queries and of rows, [w, w] each and in the same units for all blocks. Where it cannot be proved
 * to keep the promise of LOSS, it mixes nothing.
 */
export function designBlock(queries: Float64Array, rows: Float64Array, width: number): MixingBlock {
  return mixed(queries, rows, width) ?? unmixed(queries, rows, width);
}

/** Null where a moment is next to nothing, or where the inverse would lose more than LOSS. */
function mixed(queries: Float64Array, rows: Float64Array, width: number): MixingBlock | null {
  if (Math.min(traceOf(queries, width), traceOf(rows, width)) < LEAST_TRACE) return null;
  const lower = cholesky(regular(queries, width), width);
  const upper = transposed(lower, width);
  // Lᵀ C_p L, whose rows are the products of C_p's with the columns of L.
  const half = rowProducts(regular(rows, width), upper, width);
  const middle = rowProducts(upper, transposed(half, width), width);
  const { values, vectors } = eigenpairs(Matrix.from1DArray(width, width, middle));
  // Columns of L⁻ᵀ X are the products of X's with the columns of L⁻¹.
  const columns = rowProducts(vectors, transposed(lowerInverse(lower, width), width), width);
  const energies = values.map((value) => Math.sqrt(Math.max(value, values[0]! * 2 ** -46)));
  for (let j = 0; j < width; j++) {
    const stretch = Math.sqrt(energies[j]!);
    for (let i = 0; i < width; i++) columns[j * width + i]! *= stretch;
  }
  const block = { width, ...rounded(columns, width), energies };
  const inverted = invert(dequantised(block), width);
  return inverted && lossOf(dequantised(block), inverted, width) <= LOSS ? { ...block, inverse: inverted } : null;
}

/** A of powers of two on the diagonal, which balance where there is something to balance; its inverse is exact. */
function unmixed(queries: Float64Array, rows: Float64Array, width: number): MixingBlock {
  const stride = columnBytes(width);
  const exponents = new Int16Array(width);
  const entries = new Int8Array(width * stride);
  const inverted = new Float64Array(width * width);
  const energies = new Float64Array(width);
  for (let j = 0; j < width; j++) {
    const query = queries[j * width + j]!;
    const row = rows[j * width + j]!;
    const ratio = Math.sqrt(Math.sqrt(row / query));
    const balance = ratio > 0 && Number.isFinite(ratio) ? exponentOf(ratio) : 0;
    entries[j * stride + j] = 64;
    exponents[j] = balance - 6;
    inverted[j * width + j] = 2 ** -balance;
    energies[j] = Math.sqrt(query * row);
  }
  return { width, exponents, entries, inverse: inverted, energies };
}

/** A's columns one after another as float64, [w, w]: Aᵀ row-major. */
export function dequantised({ width, exponents, entries }: Omit<MixingBlock, "inverse" | "energies">): Float64Array {
  const stride = columnBytes(width);
  const columns = new Float64Array(width * width);
  for (let j = 0; j < width; j++) {
    const scale = 2 ** exponents[j]!;
    for (let i = 0; i < width; i++) columns[j * width + i] = entries[j * stride + i]! * scale;
  }
  return columns;
}

/**
 * A bound on ‖p̃ − A·fl(B p̃)‖ / ‖p̃‖, B being nearly A⁻¹: ‖I − AB‖ in the Frobenius norm as computed, and for the rounding of that
 * product and of fl, w · 2⁻⁵³ · ‖|A||B|‖ each, where ‖|A||B|‖ ≤ Σ_j ‖column j of A‖ ‖row j of B‖.
 */
function lossOf(columns: Float64Array, inverted: Float64Array, width: number): number {
  const product = rowProducts(transposed(columns, width), transposed(inverted, width), width);
  let missed = 0;
  let lengths = 0;
  for (let j = 0; j < width; j++) {
    let column = 0;
    let row = 0;
    for (let i = 0; i < width; i++) {
      missed += ((i === j ? 1 : 0) - product[j * width + i]!) ** 2;
      column += columns[j * width + i]! ** 2;
      row += inverted[j * width + i]! ** 2;
    }
    lengths += Math.sqrt(column * row);
  }
  // One coordinate more than there are pays for the subtraction, a millionth for all sums of squares and higher orders.
  return (Math.sqrt(missed) + 2 * (width + 1) * 2 ** -53 * lengths) * (1 + 1e-6);
}

/** Columns [w, w] rounded to int8 at the power of two that leaves the largest entry of each in 64 … 127. */
function rounded(columns: Float64Array, width: number): Pick<MixingBlock, "exponents" | "entries"> {
  const stride = columnBytes(width);
  const exponents = new Int16Array(width);
  const entries = new Int8Array(width * stride);
  for (let j = 0; j < width; j++) {
    let largest = 0;
    for (let i = 0; i < width; i++) largest = Math.max(largest, Math.abs(columns[j * width + i]!));
    let exponent = exponentOf(largest) - 6;
    if (largest / 2 ** exponent >= 127.5) exponent++;
    exponents[j] = exponent;
    for (let i = 0; i < width; i++) entries[j * stride + i] = Math.round(columns[j * width + i]! / 2 ** exponent);
  }
  return { exponents, entries };
}

/** Moments made regular: shrunk off the diagonal, raised on it. */
function regular(moments: Float64Array, width: number): Float64Array {
  const raised = (FLOOR * traceOf(moments, width)) / width;
  const result = moments.map((moment) => (1 - SHRINKAGE) * moment);
  for (let i = 0; i < width; i++) result[i * width + i] = moments[i * width + i]! + raised;
  return result;
}

function traceOf(a: Float64Array, width: number): number {
  let sum = 0;
  for (let i = 0; i < width; i++) sum += a[i * width + i]!;
  return sum;
}

/** A⁻¹ [w, w] of the matrix with these columns; null where rounding left it singular. */
function invert(columns: Float64Array, width: number): Float64Array | null {
  const decomposed = new LuDecomposition(Matrix.from1DArray(width, width, transposed(columns, width)));
  if (decomposed.isSingular()) return null;
  const inverted = Float64Array.from(decomposed.solve(Matrix.eye(width)).to1DArray());
  return inverted.every(Number.isFinite) ? inverted : null;
}

function transposed(a: Float64Array, width: number): Float64Array {
  const result = new Float64Array(a.length);
  for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) result[j * width + i] = a[i * width + j]!;
  return result;
}
