/** A whole query where the rows it needs are in memory: what reaches a bound, its truths, and the best of both ends. See KernelExports.answer in ../kernel.ts. */
import { exact } from "./rescore";
import { HIGH, OPEN, TAILS } from "./slot";
import { sweep } from "./sweep";

export function answer(
  slot: usize, n: u32, k: u32, heaps: usize, ceilings: usize, plane: usize, filter: usize,
  places: usize, pairs: usize, room: u32, order: usize, data: usize, held: u32, dimension: usize, values: usize,
): i32 {
  memory.fill(slot + HIGH, 0, OPEN - HIGH);
  store<u32>(slot, 1, OPEN);
  store<u32>(slot, 0, TAILS);
  const count = sweep(slot, n, n, k, heaps, ceilings, plane, filter, places, pairs, room);
  if (load<u32>(slot, OPEN) != 0) return -1;
  for (let index: u32 = 0; index < count; index++) {
    if (load<u32>(places + 4 * index) >= held) return -1;
  }
  const dots = pairs + 8 * room;
  // All rows go by row, some by place.
  if (held < n) exact(data, dimension, places, count, values, dots);
  for (let at = places, end = places + 4 * count; at < end; at += 4) {
    store<u32>(at, load<u32>(order + 4 * load<u32>(at)));
  }
  if (held == n) exact(data, dimension, places, count, values, dots);
  const helpful = rank(places, dots, count, k, -1, pairs);
  const harmful = rank(places, dots, count, k, 1, pairs + 16 * helpful);
  store<u32>(places, helpful);
  store<u32>(places, harmful, 4);
  return count;
}

/** The k rows of largest influence − dot of a sign, the largest first, ties by row: f64 influence and u32 row in 16 bytes each. Returns how many there are. */
function rank(rows: usize, dots: usize, count: u32, k: u32, sign: f64, to: usize): u32 {
  let found: u32 = 0;
  for (let index: u32 = 0; index < count; index++) {
    const influence = -load<f64>(dots + 8 * index);
    const size = sign * influence;
    if (!(size > 0)) continue;
    const row = load<u32>(rows + 4 * index);
    let at = found < k ? found++ : k;
    for (; at > 0; at--) {
      const before = to + 16 * (at - 1);
      const other = sign * load<f64>(before);
      if (other > size || (other == size && load<u32>(before, 8) < row)) break;
      if (at < k) v128.store(before, v128.load(before), 16);
    }
    if (at == k) continue;
    store<f64>(to + 16 * at, influence);
    store<u32>(to + 16 * at, row, 8);
  }
  return found;
}
