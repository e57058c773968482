/** A query's place in memory: what KernelExports.prepare and sweep know of it, then its codes. Offsets in bytes, as ../kernel.ts has them. */

/** f64: the unit of the query's dots, and the factors of its intervals. */
export const UNIT: usize = 0;
export const RESIDUAL_FACTOR: usize = 8;
export const NORM_FACTOR: usize = 16;
export const HIGH_FACTOR: usize = 24;
/** f64: the k-th largest dot − width so far, and of the other end the k-th largest −(dot + width); 0 before there are k above 0. */
export const HIGH: usize = 32;
export const LOW: usize = 40;
/** u32: the next place to scan, the values in both heaps, and whether a place ahead may still matter. */
export const PLACE: usize = 48;
export const HIGH_COUNT: usize = 52;
export const LOW_COUNT: usize = 56;
export const OPEN: usize = 60;
/** f64: the factors of an interval from the head alone, of the scale, the norm (high plane) and the tail's norm. */
export const HEAD_SCALE_FACTOR: usize = 64;
export const HEAD_HIGH_FACTOR: usize = 72;
export const TAIL_FACTOR: usize = 80;
/** u32: rows whose tail was read. */
export const TAILS: usize = 88;
/** The codes: 2 · stride bytes. */
export const CODES: usize = 96;
