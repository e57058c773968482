/**
 * Extents of axes: a number, or a symbolic expression such as `batch`, `12*batch` or `past+seq`. An expression is a polynomial
 * with integer coefficients in named symbols, written in one canonical form, so that equal extents are equal strings.
 */
export type Dim = number | string;

/** Terms by monomial: the symbols of a product, sorted and joined by `*` ("" for the constant term), to its coefficient. */
type Polynomial = Map<string, number>;

/** Every canonical string met so far to its terms: a string that is not here is a symbol. */
const expressions = new Map<string, Polynomial>();

function termsOf(dim: Dim): Polynomial {
  if (typeof dim === "number") return new Map(dim === 0 ? [] : [["", dim]]);
  return expressions.get(dim) ?? new Map([[dim, 1]]);
}

function canonical(terms: Polynomial): Dim {
  const present = [...terms].filter(([, coefficient]) => coefficient !== 0).sort(([a], [b]) => (a < b ? 1 : -1));
  const [first] = present;
  if (!first) return 0;
  if (present.length === 1 && first[0] === "") return first[1];
  const text = present
    .map(([monomial, coefficient]) =>
      monomial === "" ? `${coefficient}` : coefficient === 1 ? monomial : `${coefficient}*${monomial}`,
    )
    .join("+");
  if (!(present.length === 1 && first[1] === 1 && !first[0].includes("*"))) expressions.set(text, new Map(present));
  return text;
}

const joined = (a: string, b: string) => [...a.split("*"), ...b.split("*")].filter(Boolean).sort().join("*");

export function plus(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  const sum = new Map(termsOf(a));
  for (const [monomial, coefficient] of termsOf(b)) sum.set(monomial, (sum.get(monomial) ?? 0) + coefficient);
  return canonical(sum);
}

export function times(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a * b;
  const product: Polynomial = new Map();
  for (const [m, p] of termsOf(a)) {
    for (const [n, q] of termsOf(b)) product.set(joined(m, n), (product.get(joined(m, n)) ?? 0) + p * q);
  }
  return canonical(product);
}

export const minus = (a: Dim, b: Dim): Dim => plus(a, times(b, -1));

export const productOf = (dims: readonly Dim[]): Dim => dims.reduce<Dim>(times, 1);

/** a ÷ b where b is one term that divides every term of a; null where it does not. */
export function quotient(a: Dim, b: Dim): Dim | null {
  if (typeof a === "number" && typeof b === "number") return b !== 0 && a % b === 0 ? a / b : null;
  if (a === b) return 1;
  const divisor = [...termsOf(b)];
  const [only] = divisor;
  if (!only || divisor.length > 1) return null;
  const [monomial, coefficient] = only;
  const result: Polynomial = new Map();
  for (const [m, p] of termsOf(a)) {
    const left = m.split("*").filter(Boolean);
    for (const symbol of monomial.split("*").filter(Boolean)) {
      const at = left.indexOf(symbol);
      if (at < 0) return null;
      left.splice(at, 1);
    }
    if (p % coefficient !== 0) return null;
    result.set(left.join("*"), p / coefficient);
  }
  return canonical(result);
}

/** ⌊a / b⌋ for b > 0: exact where it divides, else a symbol of its own. */
export function floorQuotient(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return Math.floor(a / b);
  return quotient(a, b) ?? `⌊(${a})/(${b})⌋`;
}

/** The terms of an expression: each a coefficient and the symbols it multiplies. */
export function terms(dim: Dim): { coefficient: number; symbols: string[] }[] {
  return [...termsOf(dim)].map(([monomial, coefficient]) => ({
    coefficient,
    symbols: monomial.split("*").filter(Boolean),
  }));
}

/** Whether the symbol occurs in the expression. */
export const mentions = (dim: Dim, symbol: string): boolean =>
  typeof dim === "string" && (dim === symbol || terms(dim).some((term) => term.symbols.includes(symbol)));
