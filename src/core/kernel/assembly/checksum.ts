/** XXH64 with seed 0 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) of a stream of bytes. See KernelExports.checksum in ../kernel.ts. */

const PRIME_1: u64 = 0x9e3779b185ebca87;
const PRIME_2: u64 = 0xc2b2ae3d27d4eb4f;
const PRIME_3: u64 = 0x165667b19e3779f9;
const PRIME_4: u64 = 0x85ebca77c2b2ae63;
const PRIME_5: u64 = 0x27d4eb2f165667c5;

/** The state: four u64 accumulators, and u64 how many bytes they have taken. */
const TAKEN: usize = 32;
const STRIPE: usize = 32;

// @ts-ignore: decorator
@inline
function round(accumulator: u64, lane: u64): u64 {
  return rotl<u64>(accumulator + lane * PRIME_2, 31) * PRIME_1;
}

// @ts-ignore: decorator
@inline
function merge(hash: u64, accumulator: u64): u64 {
  return (hash ^ round(0, accumulator)) * PRIME_1 + PRIME_4;
}

export function checksumBegin(state: usize): void {
  store<u64>(state, PRIME_1 + PRIME_2, 0);
  store<u64>(state, PRIME_2, 8);
  store<u64>(state, 0, 16);
  store<u64>(state, 0 - PRIME_1, 24);
  store<u64>(state, 0, TAKEN);
}

/** Takes whole stripes: `bytes` is a multiple of 32. */
export function checksumUpdate(state: usize, data: usize, bytes: usize): void {
  let first = load<u64>(state, 0);
  let second = load<u64>(state, 8);
  let third = load<u64>(state, 16);
  let fourth = load<u64>(state, 24);
  const end = data + bytes;
  for (let at = data; at < end; at += STRIPE) {
    first = round(first, load<u64>(at, 0));
    second = round(second, load<u64>(at, 8));
    third = round(third, load<u64>(at, 16));
    fourth = round(fourth, load<u64>(at, 24));
  }
  store<u64>(state, first, 0);
  store<u64>(state, second, 8);
  store<u64>(state, third, 16);
  store<u64>(state, fourth, 24);
  store<u64>(state, load<u64>(state, TAKEN) + bytes, TAKEN);
}

/** Takes the last bytes, fewer than a stripe, and returns the checksum. */
export function checksumEnd(state: usize, data: usize, bytes: usize): u64 {
  const taken = load<u64>(state, TAKEN);
  let hash: u64 = PRIME_5;
  if (taken > 0) {
    const first = load<u64>(state, 0);
    const second = load<u64>(state, 8);
    const third = load<u64>(state, 16);
    const fourth = load<u64>(state, 24);
    hash = rotl<u64>(first, 1) + rotl<u64>(second, 7) + rotl<u64>(third, 12) + rotl<u64>(fourth, 18);
    hash = merge(merge(merge(merge(hash, first), second), third), fourth);
  }
  hash += taken + bytes;
  const end = data + bytes;
  let at = data;
  for (; at + 8 <= end; at += 8) hash = rotl<u64>(hash ^ round(0, load<u64>(at)), 27) * PRIME_1 + PRIME_4;
  if (at + 4 <= end) {
    hash = rotl<u64>(hash ^ (<u64>load<u32>(at) * PRIME_1), 23) * PRIME_2 + PRIME_3;
    at += 4;
  }
  for (; at < end; at++) hash = rotl<u64>(hash ^ (<u64>load<u8>(at) * PRIME_5), 11) * PRIME_1;
  hash = (hash ^ (hash >> 33)) * PRIME_2;
  hash = (hash ^ (hash >> 29)) * PRIME_3;
  return hash ^ (hash >> 32);
}
