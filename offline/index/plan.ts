/** What fits: for n rows and so many bytes of memory, which R, and what is then in memory. */
import { addressesOf, BudgetError, fitting, type Tier } from "../../src/core/resident.ts";

/** What a tier of memory means for a query. */
export const TIERS: Record<Tier, string> = {
  rows: "all rows as float32 beside int8: no query reads anything",
  fine: "int8, and the longest quarter of the rows or a second int8 plane: a query reads at most its top rows",
  coarse:
    "int8, and as many of the longest rows as there is room for: a query reads other rows that its bound leaves open",
};

export interface Fit {
  tier: Tier;
  /** The largest R, 0 where not even one coordinate fits. */
  dimension: number;
  /** Bytes that this R takes. */
  bytes: number;
}

/** The largest R of each tier for n rows within `budgetBytes`, at most `limit`. */
export function plan(n: number, budgetBytes: number, limit = 131_072): Fit[] {
  return (["rows", "fine", "coarse"] as const).map((tier) => {
    const dimension = largest(limit, (R) => addressesOf(n, R, tier).end <= budgetBytes);
    return { tier, dimension, bytes: dimension === 0 ? 0 : addressesOf(n, dimension, tier).end };
  });
}

/** The most rows of each tier for R coordinates within `budgetBytes`: what a 507 can offer beside a smaller R. */
export const mostRows = (dimension: number, budgetBytes: number, tier: Tier): number =>
  largest(2 ** 31, (n) => addressesOf(n, dimension, tier).end <= budgetBytes);

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
  /** Bytes that it takes, or, where nothing fits, the least that it needs. */
  bytes: number;
  /** The most rows that this R can have within the budget. */
  mostRows: number;
}

export function choose(n: number, dimension: number, budgetBytes: number): Chosen {
  const most = mostRows(dimension, budgetBytes, "coarse");
  try {
    const { tier, longest, bytes } = fitting(n, dimension, budgetBytes);
    return { dimension, tier, longest: tier === "rows" ? n : longest, bytes, mostRows: most };
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error;
    return { dimension, tier: null, longest: 0, bytes: error.needed, mostRows: most };
  }
}

/** What is held of that index, as a line of text. */
export function chosenLine({ dimension, tier, longest, bytes, mostRows }: Chosen): string {
  const size = `${(bytes / 1e6).toFixed(1)} MB`;
  if (tier === null) return `R = ${dimension}: needs ${size}, does not fit; ${mostRows} rows of this R would`;
  const rows = tier === "coarse" ? `, ${longest} of them here` : "";
  return `R = ${dimension}: ${tier} in ${size}; ${TIERS[tier]}${rows}`;
}

/** Bytes from "64MB", "1.5GB" or a plain number. Throws RangeError. */
export function parseBytes(text: string): number {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*(kB|MB|GB)?$/i.exec(text.trim()) ?? [];
  const factor = { "": 1, kb: 1e3, mb: 1e6, gb: 1e9 }[unit.toLowerCase()];
  if (number === undefined || factor === undefined) {
    throw new RangeError(
      `memory: expected bytes such as 64MB or 1.5GB, got ${JSON.stringify(text)}; write a number and a unit`,
    );
  }
  return Number(number) * factor;
}
