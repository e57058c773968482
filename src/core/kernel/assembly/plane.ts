/** Where the rows lie: PLANE of ../kernel.ts. All u32. */
export const ROW_TERMS: usize = 0;
export const ROW_CODES: usize = 4;
/** Bytes of a row's codes, and of those in its head; 0 where rows are not divided. */
export const STRIDE: usize = 8;
export const HEAD: usize = 12;
export const TAIL_TERMS: usize = 16;
export const TAIL_CODES: usize = 20;
/** Rows that their heads do not exclude: u32, and i32 (relaxed SIMD) or f64 [2] for each of PART rows. */
export const LEFT_PLACES: usize = 24;
export const LEFT_PAIRS: usize = 28;

/** Rows whose heads are multiplied before the tails of those left. */
export const PART: u32 = 256;

/** What a plane says. */
// @ts-ignore: decorator
@inline
export function field(plane: usize, offset: usize): usize {
  return <usize>load<u32>(plane + offset);
}
