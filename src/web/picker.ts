/** The picker: stored queries as a grid of tiles, one of them chosen. Filters and paging above it; arrow keys within it. */
import type { IndexDescription, QueriesAnswer, Row } from "../schema.ts";
import { element, fill } from "./element.ts";
import { readQueries } from "./requests.ts";
import { className, counted, isWrong } from "./wording.ts";

export interface Picker {
  element: HTMLElement;
  /** Loads the page that the filters ask for. Returns the first id on it. */
  load(): Promise<string | undefined>;
  /** Marks the tile of a query as chosen, where it is on this page. */
  mark(query: string): void;
}

const IMAGES_A_PAGE = 36;
const TEXTS_A_PAGE = 12;

/** `choose` is called with the id of the query that was picked. */
export function createPicker(index: IndexDescription, choose: (query: string) => void): Picker {
  const pageSize = index.files["queries.images"] ? IMAGES_A_PAGE : TEXTS_A_PAGE;
  let offset = 0;
  let page: QueriesAnswer = { total: 0, offset: 0, limit: pageSize, queries: [] };
  let chosen = "";
  let loading = new AbortController();

  const wrongOnly = radios("show", [
    ["true", "Misclassified"],
    ["", "All"],
  ]);
  const classes = radios("class", [
    ["", "Any"],
    ...(index.classes ?? []).map((name, label): Choice => [String(label), name]),
  ]);
  const range = element("span", { class: "range" });
  const previous = element("button", { type: "button", "aria-label": "Previous page" }, "\u2190");
  const next = element("button", { type: "button", "aria-label": "Next page" }, "\u2192");
  const grid = element("div", { class: "tiles", role: "listbox", "aria-label": "Stored examples" });
  const tiles = () => Array.from(grid.children).filter((child) => child instanceof HTMLElement);

  const load = async (): Promise<string | undefined> => {
    loading.abort();
    loading = new AbortController();
    const filter: Record<string, string> = { limit: String(pageSize), offset: String(offset) };
    if (wrongOnly.value() !== "") filter.misclassified = wrongOnly.value();
    if (classes.value() !== "") filter.label = classes.value();
    page = await readQueries(index.name, filter, loading.signal);
    fill(grid, ...page.queries.map((query) => tile(index, query)));
    if (page.total === 0) fill(grid, element("p", { class: "empty" }, "None like this is stored."));
    const last = offset + page.queries.length;
    range.textContent =
      page.total === 0 ? "0" : `${counted(offset + 1)}\u2013${counted(last)} of ${counted(page.total)}`;
    previous.disabled = offset === 0;
    next.disabled = last >= page.total;
    mark(chosen);
    return page.queries[0]?.id;
  };
  const reload = () =>
    load().catch((error: unknown) => {
      // Another choice has come in between: its own answer is on the way.
      if (error instanceof DOMException && error.name === "AbortError") return;
      const sentence = error instanceof Error ? error.message : String(error);
      fill(grid, element("p", { role: "alert", class: "empty" }, sentence));
    });
  const turn = async (by: 1 | -1) => {
    offset = Math.max(0, offset + by * pageSize);
    await reload();
  };

  const mark = (query: string) => {
    chosen = query;
    for (const item of tiles()) item.setAttribute("aria-selected", String(item.dataset.id === query));
    const entry = tiles().find((item) => item.dataset.id === query) ?? tiles()[0];
    if (entry) rove(entry);
  };
  /** One tile alone is reached by Tab; the arrow keys move to the others. */
  const rove = (to: HTMLElement) => {
    for (const item of tiles()) item.tabIndex = item === to ? 0 : -1;
  };
  const focus = (item: HTMLElement | undefined) => {
    if (!item) return;
    rove(item);
    item.focus();
  };

  const pick = (target: EventTarget | null) => {
    const item = target instanceof Element ? target.closest<HTMLElement>("[role=option]") : null;
    if (!item?.dataset.id) return;
    rove(item);
    choose(item.dataset.id);
  };
  grid.addEventListener("click", (event) => pick(event.target));
  grid.addEventListener("keydown", async (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(event.target);
      return;
    }
    const all = tiles();
    const from = event.target instanceof HTMLElement ? all.indexOf(event.target) : 0;
    const to = destination(event.key, from, all);
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0 && !previous.disabled) {
      await turn(-1);
      focus(tiles().at(-1));
    } else if (to >= all.length && !next.disabled) {
      await turn(1);
      focus(tiles()[0]);
    } else focus(all[Math.min(Math.max(to, 0), all.length - 1)]);
  });
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  const filtered = async () => {
    offset = 0;
    await reload();
  };
  wrongOnly.element.addEventListener("change", filtered);
  classes.element.addEventListener("change", filtered);

  const filters = element("div", { class: "filters" }, wrongOnly.element, index.classes ? classes.element : null);
  const paging = element("div", { class: "paging" }, range, previous, next);
  return { element: element("div", {}, element("div", { class: "bar" }, filters, paging), grid), load, mark };
}

/** Where a key leads from tile `from`; may lie outside the page. undefined when the key is none of ours. */
function destination(key: string, from: number, all: readonly HTMLElement[]): number | undefined {
  // The grid fills rows first on a wide screen, columns first on a narrow one.
  const byColumn = all[1] !== undefined && all[1].offsetTop !== all[0]?.offsetTop;
  const along = byColumn ? "offsetLeft" : "offsetTop";
  const line = Math.max(
    1,
    all.findIndex((item) => item[along] !== all[0]?.[along]),
  );
  const [across, down] = byColumn ? [line, 1] : [1, line];
  const steps: Record<string, number> = {
    ArrowRight: from + across,
    ArrowLeft: from - across,
    ArrowDown: from + down,
    ArrowUp: from - down,
    Home: 0,
    End: all.length - 1,
  };
  return steps[key];
}

function tile(index: IndexDescription, query: Row): HTMLElement {
  const label = className(index, query.label);
  const said = className(index, query.prediction);
  const wrong = isWrong(query);
  const spoken = `${query.id}: labeled ${label}${wrong ? `, the model says ${said}` : ""}`;
  const caption = wrong ? `${label} \u2192 ${said}` : label;
  return element(
    "div",
    {
      class: query.image ? "tile" : "tile text",
      role: "option",
      "data-id": query.id,
      "aria-label": spoken,
      tabindex: -1,
    },
    query.image ? element("img", { src: query.image, alt: "", loading: "lazy" }) : element("b", {}, query.id),
    element("span", { class: wrong ? "caption wrong" : "caption" }, caption),
  );
}

type Choice = readonly [value: string, name: string];

/** A group of radio buttons that looks like a row of buttons; the first is chosen. */
function radios(name: string, choices: readonly Choice[]): { element: HTMLElement; value(): string } {
  const inputs = choices.map(([value], at) => element("input", { type: "radio", name, value, checked: at === 0 }));
  const labels = choices.map(([, text], at) => element("label", {}, inputs[at], element("span", {}, text)));
  const legend = element("legend", {}, name);
  return {
    element: element("fieldset", { class: "segments" }, legend, ...labels),
    value: () => inputs.find((input) => input.checked)?.value ?? "",
  };
}
