/** Rows first … first + count − 1 against a query: whole, or, where a mixing divides them, by their heads and then by the tails of those left. See KernelExports.scan in ../kernel.ts. */
import { field, HEAD, LEFT_PAIRS, LEFT_PLACES, PART, ROW_CODES, ROW_TERMS, STRIDE } from "./plane";
import { scan as relaxed } from "./scan-relaxed";
import { scan as standard } from "./scan-simd";
import { TAILS } from "./slot";
import { tails } from "./tails";

export function scan(
  plane: usize, first: u32, count: u32, slot: usize,
  high: f64, low: f64, filter: usize, outPlaces: usize, outPairs: usize,
): u32 {
  const terms = field(plane, ROW_TERMS);
  const codes = field(plane, ROW_CODES);
  const head = field(plane, HEAD);
  if (head == 0) {
    const stride = field(plane, STRIDE);
    return rows(terms, codes, stride, 0, first, count, slot, high, low, filter, outPlaces, outPairs);
  }
  const leftPlaces = field(plane, LEFT_PLACES);
  const leftPairs = field(plane, LEFT_PAIRS);
  let written: u32 = 0;
  let read: u32 = 0;
  for (let done: u32 = 0; done < count; done += PART) {
    const part = min(PART, count - done);
    const left = rows(terms, codes, head, head, first + done, part, slot, high, low, filter, leftPlaces, leftPairs);
    written = tails(plane, left, slot, high, low, written, outPlaces, outPairs);
    read += left;
  }
  store<u32>(slot, load<u32>(slot, TAILS) + read, TAILS);
  return written;
}

/** Of relaxed SIMD where that is enabled, else of standard SIMD. */
// @ts-ignore: decorator
@inline
function rows(
  terms: usize, codes: usize, stride: usize, head: usize, first: u32, count: u32, slot: usize,
  high: f64, low: f64, filter: usize, outPlaces: usize, outPairs: usize,
): u32 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    return relaxed(terms, codes, stride, head, first, count, slot, high, low, filter, outPlaces, outPairs);
  }
  return standard(terms, codes, stride, head, first, count, slot, high, low, filter, outPlaces, outPairs);
}
