/** The scan that the compiled module has: of relaxed SIMD where that is enabled, else of standard SIMD. See KernelExports.scan in ../kernel.ts. */
import { scan as relaxed } from "./scan-relaxed";
import { scan as standard } from "./scan-simd";

export function scan(
  terms: usize, codes: usize, stride: usize, first: u32, count: u32, slot: usize,
  high: f64, low: f64, filter: usize, outPlaces: usize, outPairs: usize,
): u32 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    return relaxed(terms, codes, stride, first, count, slot, high, low, filter, outPlaces, outPairs);
  }
  return standard(terms, codes, stride, first, count, slot, high, low, filter, outPlaces, outPairs);
}
