/**
 * Reproducible pseudo-random numbers: the same seed and purpose give the same sequence on every platform, because only
 * 32-bit integer arithmetic is used. Generator: sfc32 (Chris Doty-Humphrey, PractRand), seeded through FNV-1a and murmur3's
 * finaliser, warmed up by 12 rounds.
 */
export interface Random {
  /** Uniform integer in [0, 2³²). */
  uint32(): number;
  /** Uniform integer in [0, bound), bound ≤ 2⁵³, without modulo bias. */
  below(bound: number): number;
  /** Uniform in [0, 1) with 53 random bits. */
  unit(): number;
  /** Standard normal (Box-Muller). Uses Math.log and Math.cos: equal between machines to the last bit or two, not always to the bit. */
  normal(): number;
}

/** A generator for one purpose (`purpose` names what is drawn, for example "mask/fc1"), independent of those for others. */
export function random(seed: number | string, purpose: string): Random {
  let hash = 0x811c9dc5;
  for (const character of `${seed}\u0000${purpose}`)
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  const word = () => {
    hash = (hash + 0x9e3779b9) | 0;
    let z = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) | 0;
  };
  let a = word();
  let b = word();
  let c = word();
  let counter = 1;
  const uint32 = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let round = 0; round < 12; round++) uint32();
  const bits53 = () => (uint32() >>> 5) * 0x4000000 + (uint32() >>> 6);
  const below = (bound: number) => {
    if (bound <= 0x1_0000_0000) {
      const limit = 0x1_0000_0000 - (0x1_0000_0000 % bound);
      for (;;) {
        const drawn = uint32();
        if (drawn < limit) return drawn % bound;
      }
    }
    const limit = Number.MAX_SAFE_INTEGER + 1 - ((Number.MAX_SAFE_INTEGER + 1) % bound);
    for (;;) {
      const drawn = bits53();
      if (drawn < limit) return drawn % bound;
    }
  };
  const unit = () => bits53() / 0x20_0000_0000_0000;
  const normal = () => Math.sqrt(-2 * Math.log(1 - unit())) * Math.cos(2 * Math.PI * unit());
  return { uint32, below, unit, normal };
}
