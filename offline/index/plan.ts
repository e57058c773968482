/** What fits: for n rows and so many bytes of memory, which R, and what is then in memory. */
import type { MixingShape } from "../../src/core/manifest.ts";
import { WIDEST_BLOCK } from "../../src/core/mixing.ts";
import { type Addresses, addressesOf, BudgetError, fitsIn, fitting, type Tier } from "../../src/core/resident.ts";
import { FEWEST_COORDINATES } from "./mixing.ts";

/** What a tier of memory means for a query, and the bits that a coordinate takes. */
export const TIERS: Record<Tier, string> = {
  rows: "40 bits: int8, and all rows as float32; no query reads anything",
  fine: "16 bits: int8, and the longest quarter of the rows or a second int8 plane; a query reads at most its top rows",
  coarse:
    "8 bits: int8, and as many of the longest rows as there is room for; a query reads other rows that its bound leaves open",
};

/**
 * A mixing of R coordinates that takes no less memory than any that designMixing gives: one block of all, or as many of 256 as make no
 * fewer entries with a larger R. Null for an R that is too small to be mixed.
 */
export function largestMixing(R: number): MixingShape | null {
  if (R < FEWEST_COORDINATES) return null;
  const blocks = R <= WIDEST_BLOCK ? [R] : new Array(2 * Math.ceil(R / WIDEST_BLOCK)).fill(WIDEST_BLOCK / 2);
  return { blocks, head: 16 * Math.round(R / 64) };
}

/** What another head takes beyond this one, in whole pages: at most two bytes a coordinate for rotations, and three for a last group of rows. */
const besideHead = (R: number): number => (R < FEWEST_COORDINATES ? 0 : PAGE * Math.ceil((5 * R) / PAGE));

const PAGE = 65_536;

/** What an index takes at most: whether it is mixed, and how, is known only once it is built. */
export function takenAtMost(n: number, R: number, tier: Tier): Addresses {
  const addresses = addressesOf(n, R, tier, 0, largestMixing(R));
  const beside = besideHead(R);
  return { ...addresses, end: addresses.end + beside, memoryBytes: addresses.memoryBytes + beside };
}

export interface Fit {
  tier: Tier;
  /** The largest R, 0 where not even one coordinate fits. */
  dimension: number;
  /** Bytes that this R takes at most. */
  bytes: number;
}

/** The largest R of each tier for n rows within `budgetBytes`, at most `limit`. */
export function plan(n: number, budgetBytes: number, limit = 131_072): Fit[] {
  return (["rows", "fine", "coarse"] as const).map((tier) => {
    const dimension = largest(limit, (R) => fitsIn(takenAtMost(n, R, tier), budgetBytes));
    return { tier, dimension, bytes: dimension === 0 ? 0 : takenAtMost(n, dimension, tier).end };
  });
}

/** The most rows of each tier for R coordinates within `budgetBytes`: what a 507 can offer beside a smaller R. */
export const mostRows = (dimension: number, budgetBytes: number, tier: Tier): number =>
  largest(2 ** 31, (n) => fitsIn(takenAtMost(n, dimension, tier), budgetBytes));

/** The largest integer in 1 … limit that fits, 0 if none does; what fits is downward closed. */
function largest(limit: number, fits: (value: number) => boolean): number {
  let low = 0;
  let high = limit;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * What a query costs on real vectors, top 10 of both ends: rows re-scored, in % of n, and rows read from the store where only the
 * coarse plane is held, and where the tier "fine" is. Medians of 60 queries, `npm run bench -- search`; where a run is there, plan
 * measures its own vectors instead.
 */
export const REFERENCE = [
  { vectors: "60,000 digits, a CNN, R = 512", rescored: 0.04, coarse: 17, fine: 0 },
  { vectors: "20,000 passages, a GPT, R = 512", rescored: 0.12, coarse: 16, fine: 12 },
  { vectors: "20,000 e-mail windows, an embedding, R = 512", rescored: 0.13, coarse: 5, fine: 0 },
] as const;

/** The reference as lines of text. */
export const referenceLines = (): string[] => [
  "Measured, top 10 of both ends, medians (a run's folder as argument measures its own vectors):",
  ...REFERENCE.map(
    ({ vectors, rescored, coarse, fine }) =>
      `  ${vectors}: ${rescored} % of the rows re-scored; rows read from the store: rows 0, fine ${fine}, coarse ${coarse}`,
  ),
  "Fewer bits than eight certify next to nothing: with 6 bits 38 to 48 % of the rows are re-scored, with 4 bits all.",
];

/** The largest R, a multiple of 16 where that leaves any, with which a query reads at most its top rows. Throws RangeError if none fits. */
export function dimensionFor(n: number, budgetBytes: number, limit: number): number {
  const most = plan(n, budgetBytes, limit).find(({ tier }) => tier === "fine")?.dimension ?? 0;
  if (most === 0) {
    throw new RangeError(
      `--memory: expected room for ${n} rows, got ${budgetBytes} bytes; take fewer examples or a larger budget`,
    );
  }
  return most < 16 || most === limit ? most : most - (most % 16);
}

/** The plan as lines of text. */
export function planLines(n: number, budgetBytes: number): string[] {
  return plan(n, budgetBytes).map(({ tier, dimension, bytes }) =>
    dimension === 0
      ? `${tier}: nothing fits`
      : `${tier}: R ≤ ${dimension} in ${(bytes / 1e6).toFixed(1)} MB; ${TIERS[tier]}`,
  );
}

/** What is held of an index of n rows and R coordinates. */
export interface Chosen {
  dimension: number;
  /** Null where nothing of it fits. */
  tier: Tier | null;
  /** Rows held as float32, the longest first. */
  longest: number;
  /** Bytes that it takes at most, or, where nothing fits, that it needs. */
  bytes: number;
  /** The most rows that this R can have within the budget. */
  mostRows: number;
}

export function choose(n: number, dimension: number, budgetBytes: number): Chosen {
  const most = mostRows(dimension, budgetBytes, "coarse");
  const beside = besideHead(dimension);
  try {
    const { tier, longest, bytes } = fitting(n, dimension, budgetBytes - beside, largestMixing(dimension));
    return { dimension, tier, longest: tier === "rows" ? n : longest, bytes: bytes + beside, mostRows: most };
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error;
    return { dimension, tier: null, longest: 0, bytes: error.needed + beside, mostRows: most };
  }
}

/** What is held of that index, as a line of text. */
export function chosenLine({ dimension, tier, longest, bytes, mostRows }: Chosen): string {
  const size = `${(bytes / 1e6).toFixed(1)} MB`;
  if (tier === null) return `R = ${dimension}: needs ${size}, does not fit; ${mostRows} rows of this R would`;
  const rows = tier === "coarse" ? `, ${longest} of them here` : "";
  return `R = ${dimension}: ${tier} in ${size}; ${TIERS[tier]}${rows}`;
}
