/**
 * Cholesky and inverse of large matrices, by blocks: the products, which are nearly all of the work, go through onnxruntime;
 * only the diagonal blocks are factored here. Left-looking; L is kept as block columns, each [r − first, width] row-major, so
 * that every operand of a product is a contiguous part of one array.
 */
import { cholesky, inverseFromFactor, lowerInverse, PivotError } from "./cholesky.ts";
import { type Gemm, openGemm } from "./gemm.ts";
import type { ProductDevice } from "./matrix.ts";

/** Up to this size one unblocked factorisation is quicker than handing products over. */
const UNBLOCKED = 512;
const BLOCK = 512;

interface BlockColumn {
  /** Row and column at which the block starts, and its width. */
  first: number;
  width: number;
  /** [r − first, width]: L from its diagonal block down. */
  values: Float64Array;
}

/** Rows from … to − 1 of a block column: [to − from, width], the same memory. */
const rowsOf = ({ first, width, values }: BlockColumn, from: number, to: number) => ({
  values: values.subarray((from - first) * width, (to - first) * width),
  rows: to - from,
  columns: width,
});

/** Block columns of L with A = L Lᵀ. `a`: [r, r], its lower triangle is read. Throws PivotError with the row in A. */
async function factor(
  gemm: Gemm,
  a: Float64Array,
  r: number,
): Promise<{ columns: BlockColumn[]; inverses: Float64Array[] }> {
  const columns: BlockColumn[] = [];
  const inverses: Float64Array[] = [];
  for (let first = 0; first < r; first += BLOCK) {
    const width = Math.min(BLOCK, r - first);
    let values: Float64Array = new Float64Array((r - first) * width);
    for (let row = first; row < r; row++)
      values.set(a.subarray(row * r + first, row * r + first + width), (row - first) * width);
    // A_k − Σ_j L_j L_jkᵀ
    for (const before of columns) {
      values = await gemm.multiply(
        { transB: true, alpha: -1 },
        rowsOf(before, first, r),
        rowsOf(before, first, first + width),
        values,
      );
    }
    let diagonal: Float64Array;
    try {
      diagonal = cholesky(values.subarray(0, width * width), width);
    } catch (error) {
      throw error instanceof PivotError ? new PivotError(first + error.row, error.pivot) : error;
    }
    const inverse = lowerInverse(diagonal, width);
    const below = r - first - width;
    if (below > 0) {
      const panel = { values: values.subarray(width * width), rows: below, columns: width };
      values.set(
        await gemm.multiply({ transB: true }, panel, { values: inverse, rows: width, columns: width }),
        width * width,
      );
    }
    values.set(diagonal);
    columns.push({ first, width, values });
    inverses.push(inverse);
  }
  return { columns, inverses };
}

/** A⁻¹ = Mᵀ M with M = L⁻¹, block row by block row: M_k = L_kk⁻¹ (I_k − Σ_{j<k} L_kj M_j). */
async function invert(
  gemm: Gemm,
  columns: readonly BlockColumn[],
  inverses: readonly Float64Array[],
  r: number,
): Promise<Float64Array> {
  const blockRows: Float64Array[] = [];
  const result = new Float64Array(r * r);
  for (const [k, { first, width }] of columns.entries()) {
    const end = first + width;
    const row = new Float64Array(width * end);
    for (const [j, before] of columns.slice(0, k).entries()) {
      const reach = before.first + before.width;
      const product = await gemm.multiply({ alpha: -1 }, rowsOf(before, first, end), {
        values: blockRows[j]!,
        rows: before.width,
        columns: reach,
      });
      for (let i = 0; i < width; i++) for (let c = 0; c < reach; c++) row[i * end + c]! += product[i * reach + c]!;
    }
    for (let i = 0; i < width; i++) row[i * end + first + i]! += 1;
    const solved = await gemm.multiply(
      {},
      { values: inverses[k]!, rows: width, columns: width },
      { values: row, rows: width, columns: end },
    );
    blockRows.push(solved);
    const operand = { values: solved, rows: width, columns: end };
    const gram = await gemm.multiply({ transA: true }, operand, operand);
    for (let i = 0; i < end; i++) for (let c = 0; c <= i; c++) result[i * r + c]! += gram[i * end + c]!;
  }
  for (let i = 0; i < r; i++) for (let c = 0; c < i; c++) result[c * r + i] = result[i * r + c]!;
  return result;
}

/**
 * A⁻¹ of a symmetric positive-definite matrix, [r, r] float64, symmetric to the bit. Only the lower triangle of `a` is read.
 * Throws PivotError at the first pivot that is not positive.
 */
export async function positiveDefiniteInverse(
  a: Float64Array,
  r: number,
  where: ProductDevice = {},
): Promise<Float64Array> {
  if (r <= UNBLOCKED) return inverseFromFactor(cholesky(a, r), r);
  const gemm = openGemm(where);
  try {
    const { columns, inverses } = await factor(gemm, a, r);
    return await invert(gemm, columns, inverses, r);
  } finally {
    await gemm.release();
  }
}
