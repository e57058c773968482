/** One query's way through the places: parts that double, the bounds brought up to date after each. See KernelExports.sweep in ../kernel.ts. */
import { reaches } from "./candidates";
import { scan } from "./scan";
import { HIGH, HIGH_COUNT, LOW, LOW_COUNT, NORM_FACTOR, OPEN, PLACE, RESIDUAL_FACTOR } from "./slot";

/** Places between two ceilings, and places that are scanned at most before the bounds are brought up to date. */
const STEP: u32 = 64;
const MOST: u32 = 256;

export function sweep(
  slot: usize, until: u32, n: u32, k: u32, heaps: usize, ceilings: usize,
  plane: usize, filter: usize, outPlaces: usize, outPairs: usize, room: u32,
): u32 {
  const factors = load<f64>(slot, RESIDUAL_FACTOR) + load<f64>(slot, NORM_FACTOR);
  const lows = heaps + 8 * k;
  let place = load<u32>(slot, PLACE);
  let written: u32 = 0;
  while (place < until) {
    // The first rows set the bounds that spare the later ones, so parts begin small; and they end where no place is long enough by now.
    const most = min(min(max(place, STEP), MOST), until - place);
    const bound = min(load<f64>(slot, HIGH), load<f64>(slot, LOW));
    let count = STEP;
    while (count < most && factors * load<f64>(ceilings + 8 * ((place + count) / STEP)) >= bound) count += STEP;
    count = min(count, most);
    if (written + count > room) {
      written = compact(slot, written, outPlaces, outPairs);
      if (written + count > room) break;
    }
    const before = written;
    written += scan(
      plane, place, count, slot, load<f64>(slot, HIGH), -load<f64>(slot, LOW), filter,
      outPlaces + 4 * before, outPairs + 16 * before,
    );
    if (k > 0) {
      for (let entry = before; entry < written; entry++) {
        const dot = load<f64>(outPairs + 16 * entry);
        const width = load<f64>(outPairs + 16 * entry, 8);
        offer(slot + HIGH, slot + HIGH_COUNT, heaps, k, dot - width);
        offer(slot + LOW, slot + LOW_COUNT, lows, k, -(dot + width));
      }
    }
    place += count;
    const farthest = place < n ? factors * load<f64>(ceilings + 8 * (place / STEP)) : 0;
    if (farthest > 0 && farthest >= min(load<f64>(slot, HIGH), load<f64>(slot, LOW))) continue;
    store<u32>(slot, 0, OPEN);
    break;
  }
  store<u32>(slot, place, PLACE);
  return compact(slot, written, outPlaces, outPairs);
}

/** Adds a value above zero to the k largest, a binary heap with the least on top; `bound` is that once there are k. */
function offer(bound: usize, counted: usize, heap: usize, k: u32, value: f64): void {
  if (!(value > load<f64>(bound))) return;
  const count = load<u32>(counted);
  let at: u32 = 0;
  if (count < k) {
    at = count;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = load<f64>(heap + 8 * parent);
      if (above <= value) break;
      store<f64>(heap + 8 * at, above);
      at = parent;
    }
    store<u32>(counted, count + 1);
  } else {
    for (;;) {
      let child = (at << 1) + 1;
      if (child >= k) break;
      if (child + 1 < k && load<f64>(heap + 8 * (child + 1)) < load<f64>(heap + 8 * child)) child++;
      const below = load<f64>(heap + 8 * child);
      if (below >= value) break;
      store<f64>(heap + 8 * at, below);
      at = child;
    }
  }
  store<f64>(heap + 8 * at, value);
  if (load<u32>(counted) == k) store<f64>(bound, load<f64>(heap));
}

/** Drops what the bounds exclude by now from the entries written; returns how many are left. */
function compact(slot: usize, written: u32, outPlaces: usize, outPairs: usize): u32 {
  const high = load<f64>(slot, HIGH);
  const low = -load<f64>(slot, LOW);
  let left: u32 = 0;
  for (let entry: u32 = 0; entry < written; entry++) {
    const pair = v128.load(outPairs + 16 * entry);
    const dot = f64x2.extract_lane(pair, 0);
    const width = f64x2.extract_lane(pair, 1);
    if (!reaches(dot, width, high, low)) continue;
    store<u32>(outPlaces + 4 * left, load<u32>(outPlaces + 4 * entry));
    v128.store(outPairs + 16 * left, pair);
    left++;
  }
  return left;
}
