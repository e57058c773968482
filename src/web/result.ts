/** One answer: the query large, the most helpful and the most harmful training examples beside it, and what proves it. */
import type { IndexDescription, InfluenceAnswer, NeighbourRow, Row } from "../schema.ts";
import { element } from "./element.ts";
import type { Timings } from "./requests.ts";
import { cell, className, columnName, counted, duration, isWrong, otherColumns, short, signed } from "./wording.ts";

/** The answer as an article. */
export function result(index: IndexDescription, answer: InfluenceAnswer, timings: Timings): HTMLElement {
  const strongest = [...answer.helpful, ...answer.harmful].reduce(
    (most, { influence }) => Math.max(most, Math.abs(influence)),
    0,
  );
  const list = (kind: "helpful" | "harmful", title: string, meaning: string) =>
    element(
      "section",
      { class: `side ${kind}`, "aria-labelledby": `${kind}-title` },
      element("h3", { id: `${kind}-title` }, title),
      element("p", { class: "meaning" }, meaning),
      answer[kind].length === 0
        ? element("p", { class: "empty" }, "None: no training example has influence of this sign.")
        : element("ol", {}, ...answer[kind].map((row) => neighbour(index, row, strongest))),
    );
  return element(
    "article",
    { class: "answer" },
    asked(index, answer),
    list("helpful", "Most helpful", "More of these in training would lower the loss here."),
    list("harmful", "Most harmful", "More of these in training would raise the loss here."),
    proof(index, answer, timings),
  );
}

/** What a screen reader says once the answer is there. */
export function announcement(index: IndexDescription, { query, helpful, harmful, exact }: InfluenceAnswer): string {
  const flipped = [...helpful, ...harmful].filter((row) => row.flipped === true).length;
  const said = query ? `${query.id}, labeled ${className(index, query.label)}: ` : "";
  const mislabeled = flipped > 0 ? ` ${flipped} of them mislabeled.` : "";
  return `${said}${helpful.length} most helpful and ${harmful.length} most harmful training examples.${mislabeled} ${exact ? "Exact." : "Approximate."}`;
}

function asked(index: IndexDescription, { query }: InfluenceAnswer): HTMLElement {
  if (!query) return element("div", { class: "asked" });
  const wrong = isWrong(query);
  const label = className(index, query.label);
  const said = className(index, query.prediction);
  const facts = [
    fact("Label", label),
    fact("The model says", said, wrong ? "wrong" : ""),
    fact("Loss", typeof query.loss === "number" ? short(query.loss) : ""),
    ...otherColumns(query).map(([name, value]) => fact(columnName(name), cell(value))),
  ];
  return element(
    "section",
    { class: "asked", "aria-label": "The chosen example" },
    query.image && element("img", { class: "large", src: query.image, alt: `${query.id}, labeled ${label}` }),
    element(
      "div",
      {},
      element("h2", {}, query.image ? verdict(label, said, wrong) : query.id),
      element("dl", {}, ...facts),
      query.image && element("p", { class: "id" }, query.id),
    ),
  );
}

function verdict(label: string, said: string, wrong: boolean | undefined): string {
  if (wrong === undefined) return label === "" ? "The chosen example" : `A ${label}`;
  return wrong ? `A ${label}, read as ${said}` : `A ${label}, read correctly`;
}

function fact(name: string, value: string, kind = ""): HTMLElement | null {
  if (value === "") return null;
  const long = value.length > 24;
  return element(
    "div",
    { class: long ? "fact long" : "fact" },
    element("dt", {}, name),
    element("dd", { class: kind }, value),
  );
}

function neighbour(index: IndexDescription, row: NeighbourRow, strongest: number): HTMLElement {
  const label = className(index, row.label);
  const share = strongest === 0 ? 0 : (100 * Math.abs(row.influence)) / strongest;
  const bar = element("span", { class: "meter", "aria-hidden": "true" }, element("span", { class: "fill" }));
  bar.style.setProperty("--share", `${share.toFixed(2)}%`);
  return element(
    "li",
    { class: row.flipped === true ? "neighbour flipped" : "neighbour" },
    row.image && element("img", { src: row.image, alt: `labeled ${label}`, loading: "lazy" }),
    element(
      "div",
      { class: "what" },
      element(
        "p",
        { class: "line" },
        label !== "" && element("span", { class: "labeled" }, "labeled ", element("b", { class: "label" }, label)),
        row.flipped === true && mislabeled(index, row),
        element("span", { class: "value" }, signed(row.influence)),
      ),
      bar,
      element("p", { class: "id" }, row.id),
      ...(row.image ? [] : otherColumns(row).map(([name, value]) => column(name, cell(value)))),
    ),
  );
}

function mislabeled(index: IndexDescription, row: Row): HTMLElement {
  const truth = className(index, row.was);
  return element("span", { class: "tag" }, truth === "" ? "mislabeled" : `mislabeled: really ${truth}`);
}

const column = (name: string, value: string) =>
  element("p", { class: "column" }, element("span", { class: "column-name" }, `${columnName(name)} `), value);

function proof(index: IndexDescription, answer: InfluenceAnswer, { server, roundTrip }: Timings): HTMLElement {
  const certified = answer.exact
    ? `Exact: proved against all ${counted(index.n)} training examples; ${counted(answer.rescored)} were compared in full precision.`
    : `Approximate: about ${Math.round(100 * answer.recall)} % of the true members are found; ${counted(answer.rescored)} of ${counted(index.n)} training examples were compared.`;
  // The server names a phase without a duration where its clock did not move.
  const phases = ["search", "server"].flatMap((name) => {
    const took = server.get(name === "server" ? "total" : name);
    return took === undefined ? [] : [`${name} ${duration(took)}`];
  });
  const times = [...phases, `round trip ${duration(roundTrip)}`].join(" · ");
  return element(
    "footer",
    { class: "proof" },
    element("p", { class: answer.exact ? "certificate exact" : "certificate" }, certified),
    element("p", { class: "times" }, times),
    answer.query && terminal(index, answer.query.id, answer.topK),
  );
}

/** The command that asks the same. */
function terminal(index: IndexDescription, query: string, topK: number): HTMLElement {
  const body = JSON.stringify({ query, topK }).replaceAll("'", "'\\''");
  const command = `curl -s ${location.origin}/v1/indexes/${index.name}/influence --json '${body}'`;
  return element(
    "details",
    {},
    element("summary", {}, "The same from a terminal"),
    element("pre", { tabindex: 0 }, element("code", {}, command)),
  );
}

/** The shape of an answer, before the first is there. */
export function loadingResult(rows: number): HTMLElement {
  const row = () => element("li", { class: "neighbour" }, element("span", { class: "blank" }));
  const side = () => element("section", { class: "side" }, element("ol", {}, ...Array.from({ length: rows }, row)));
  return element(
    "div",
    { class: "answer loading" },
    element("p", { class: "hidden" }, "Loading"),
    element("section", { class: "asked" }, element("span", { class: "blank large" })),
    side(),
    side(),
  );
}
