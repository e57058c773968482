/** How far the order can be trusted: what `verify` measured against exact influence, in words and in two tables. */
import type { IndexDescription } from "../schema.ts";
import { byId, element, fill } from "./element.ts";
import { counted } from "./wording.ts";

type Fidelity = NonNullable<IndexDescription["fidelity"]>;
type Agreement = Fidelity["agreement"];

export function showTrust({ fidelity, compressor }: IndexDescription): void {
  if (!fidelity) {
    fill(
      byId("trust"),
      element(
        "p",
        {},
        "Not measured yet: ",
        element("code", {}, "npx influence verify"),
        " compares this index with exact influence, and the next build shows here what came out.",
      ),
    );
    return;
  }
  fill(
    byId("trust"),
    element("p", { class: "verdict" }, ...words(fidelity.verdict)),
    element("div", { class: "tables" }, variants(fidelity, compressor.kind), layers(fidelity)),
    element(
      "p",
      { class: "small" },
      `Means over ${counted(fidelity.queries)} queries and a sample of ${counted(fidelity.examples)} training examples. Correlation is of the ranks of all examples; of the ten most helpful and the ten most harmful, the middle column says how many are the same.`,
    ),
  );
}

/** Text with `code` in it; "R = 512" stays on one line. */
const words = (text: string) =>
  text
    .replaceAll("R = ", "R\u00a0=\u00a0")
    .split("`")
    .map((part, at) => (at % 2 === 1 ? element("code", {}, part) : part));

/** Of ten, both ends of the list alike. */
const found = ({ top10Helpful, top10Harmful }: Agreement) => (5 * (top10Helpful + top10Harmful)).toFixed(1);

function table(caption: string, head: readonly string[], rows: readonly (readonly string[])[]): HTMLElement {
  const cells = ([name = "", ...values]: readonly string[]) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...values.map((value) => element("td", {}, value)));
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map(cells)),
  );
}

function variants({ agreement, betweenSeeds, sizes, compressors }: Fidelity, kind: string): HTMLElement {
  const line = (name: string, of: Agreement) => [name, found(of), of.spearman.toFixed(2)];
  const same = (of: Agreement) => of.spearman === agreement.spearman && found(of) === found(agreement);
  return table(
    "Against exact influence",
    ["", "Of ten", "Correlation"],
    [
      line("This index", agreement),
      ...sizes.filter((size) => !same(size)).map((size) => line(`${kind}, R = ${counted(size.dimension)}`, size)),
      ...compressors.slice(1).map((other) => line(`${other.kind}, same R`, other)),
      line("Two seeds with each other", betweenSeeds),
    ],
  );
}

const layers = (fidelity: Fidelity) =>
  table(
    "Layer by layer",
    ["", "Share of influence", "Correlation"],
    fidelity.layers.map(({ name, share, spearman }) => [name, `${Math.round(100 * share)} %`, spearman.toFixed(2)]),
  );
