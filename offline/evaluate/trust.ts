/** What the figures of `verify` mean, for someone who has not read the paper. */
import type { Agreement, Fidelity } from "../../src/core/manifest.ts";

/** Of the ten truly most influential examples so many must be found, on average, for the lists to be trusted. */
const ENOUGH = 8;
/** By so many of the ten another compressor must be better to be named. */
const BETTER = 0.5;
/** A layer whose ranking agrees less than this has collapsed, if it carries at least this part of the influence. */
const [COLLAPSED, COUNTS] = [0.3, 0.02];

/** Of the ten most influential examples, how many are found; both ends of the list alike. */
export const foundOfTen = ({ top10Helpful, top10Harmful }: Pick<Agreement, "top10Helpful" | "top10Harmful">): number =>
  5 * (top10Helpful + top10Harmful);

const listed = (found: number) =>
  found >= ENOUGH
    ? "the top of the lists can be trusted"
    : found >= 5
      ? "the top of the lists is right more often than not"
      : "the lists cannot be trusted";

const ranked = (correlation: number) =>
  correlation >= 0.8 ? "agrees well" : correlation >= 0.5 ? "is rough" : "is noise";

/** The compressor that finds clearly more than the index's own; null where none does. */
export function betterCompressor({ compressors: [own, ...others] }: Fidelity): Fidelity["compressors"][number] | null {
  const [best] = [...others].sort((a, b) => foundOfTen(b) - foundOfTen(a));
  return own && best && foundOfTen(best) >= foundOfTen(own) + BETTER ? best : null;
}

function ofSize({ sizes }: Fidelity): string {
  const enough = sizes.find((size) => foundOfTen(size) >= ENOUGH);
  const short = sizes.filter((size) => foundOfTen(size) < ENOUGH).at(-1);
  const said = (size: Fidelity["sizes"][number], what: string) =>
    `R = ${size.dimension} is ${what} (${foundOfTen(size).toFixed(1)} of ten)`;
  if (!enough) return short ? `Of this compressor not even ${said(short, "enough")}.` : "";
  return short && short.dimension < enough.dimension
    ? `${said(enough, "enough")}, ${said(short, "not")}.`
    : `${said(enough, "already enough")}.`;
}

/** The verdict on everything that was measured. */
export function verdictOf(measured: Omit<Fidelity, "verdict">): string {
  const fidelity = { ...measured, verdict: "" };
  const { agreement, betweenSeeds, compressors, examples, layers } = fidelity;
  const found = foundOfTen(agreement);
  const again = foundOfTen(betweenSeeds);
  const better = betterCompressor(fidelity);
  const [own] = compressors;
  const collapsed = layers.filter(({ spearman, share }) => spearman < COLLAPSED && share >= COUNTS);
  return [
    `On a sample of ${examples.toLocaleString("en-US")} examples, of the ten truly most influential ${found.toFixed(1)} are found on average: ${listed(found)}, and the ranking below it ${ranked(agreement.spearman)} (correlation ${agreement.spearman.toFixed(2)}).`,
    again >= 9.95
      ? "Another seed gives the same lists."
      : `Two draws with different seeds have ${again.toFixed(1)} of ten in common.`,
    ofSize(fidelity),
    ...collapsed.map(
      ({ name, spearman, share }) =>
        `Layer ${name} has collapsed: its own ranking agrees only ${spearman.toFixed(2)}, and it carries ${Math.round(100 * share)} % of the influence.`,
    ),
    better && own
      ? `\`compressor: ${better.kind}\` does better on this model at the same R: ${foundOfTen(better).toFixed(1)} of ten, correlation ${better.spearman.toFixed(2)} (${own.kind}: ${foundOfTen(own).toFixed(1)}, ${own.spearman.toFixed(2)}).`
      : "",
  ]
    .filter((sentence) => sentence !== "")
    .join(" ");
}

const three = (value: number) => value.toFixed(3);
const row = (cells: readonly string[]) =>
  `  ${(cells[0] ?? "").padEnd(34)}${cells
    .slice(1)
    .map((cell) => cell.padStart(17))
    .join("")}`;
const figures = (name: string, of: Agreement) =>
  row([
    name,
    three(of.spearman),
    `${three(of.top10Helpful)} / ${three(of.top10Harmful)}`,
    `${three(of.top100Helpful)} / ${three(of.top100Harmful)}`,
  ]);

/** Everything that was measured, as a table to read in a terminal. `d`: entries of the covered layers. */
export function fidelityReport(fidelity: Fidelity, d: number): string {
  const { examples, queries, agreement, betweenSeeds, sizes, compressors, layers } = fidelity;
  const [own] = compressors;
  return [
    `compressed against exact influence (d = ${d}), ${examples} training examples, ${queries} queries, means:`,
    row(["", "correlation", "top-10 + / −", "top-100 + / −"]),
    figures("this index", agreement),
    figures("two seeds with each other", betweenSeeds),
    ...sizes.map((size) => figures(`${own?.kind ?? ""}, R = ${size.dimension}`, size)),
    ...compressors.slice(1).map((other) => figures(`${other.kind}, same R`, other)),
    "",
    row(["layer", "correlation", "top-10 helpful", "share", "condition"]),
    ...layers.map(({ name, spearman, top10Helpful, share, condition }) =>
      row([name, three(spearman), three(top10Helpful), three(share), condition.toPrecision(3)]),
    ),
  ].join("\n");
}
