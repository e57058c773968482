/** The page: an index is chosen, then a stored query, then its neighbours are shown. The address says which: #query=<id>. */
import type { IndexDescription } from "../schema.ts";
import { byId, element, fill } from "./element.ts";
import { showFacts } from "./facts.ts";
import { createPicker, type Picker } from "./picker.ts";
import { askInfluence, readIndex, readIndexes } from "./requests.ts";
import { announcement, loadingResult, result } from "./result.ts";
import { showTrust } from "./trust.ts";

const TOP_K = 10;

interface Shown {
  index: IndexDescription;
  picker: Picker;
}

const stage = byId("result");
const live = byId("live");
let shown: Shown | undefined;
let asking = new AbortController();

/** What the address asks for. */
function address(): { index: string | null; query: string | null } {
  const parameters = new URLSearchParams(location.hash.slice(1));
  return { index: parameters.get("index"), query: parameters.get("query") };
}

function addressOf(index: string, query: string): string {
  const parameters = new URLSearchParams({ query });
  if (byId("indexes").childElementCount > 1) parameters.set("index", index);
  return `#${parameters}`;
}

/** Follows the address: the index first, where it is another one, then the query. */
async function follow(): Promise<void> {
  const wanted = address();
  if (!shown || (wanted.index !== null && wanted.index !== shown.index.name)) {
    await openIndex(wanted.index);
    return;
  }
  if (wanted.query !== null) await showQuery(shown, wanted.query);
}

async function openIndex(wanted: string | null): Promise<void> {
  const { indexes, unavailable } = await readIndexes();
  const name = wanted ?? indexes[0]?.name ?? unavailable[0]?.name;
  if (name === undefined) throw new Error("No index is published here yet. Build one with: npx influence build");
  fill(
    byId("indexes"),
    ...indexes.map((index) => element("option", { value: index.name, selected: index.name === name }, index.title)),
  );
  byId("index-choice").hidden = indexes.length < 2;
  const index = await readIndex(name);
  showFacts(index);
  showTrust(index);
  const picker = createPicker(index, (query) => {
    location.hash = addressOf(name, query);
  });
  shown = { index, picker };
  fill(byId("picker"), picker.element);
  if (index.queries === 0) {
    fill(
      stage,
      element("p", { class: "empty" }, "This index has no stored queries: POST a gradient to the API instead."),
    );
    return;
  }
  const first = await picker.load();
  const query = address().query ?? first;
  if (query === undefined) return;
  history.replaceState(null, "", addressOf(name, query));
  await showQuery(shown, query);
}

async function showQuery({ index, picker }: Shown, query: string): Promise<void> {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  picker.mark(query);
  stage.setAttribute("aria-busy", "true");
  if (stage.childElementCount === 0) fill(stage, loadingResult(TOP_K));
  try {
    const { answer, timings } = await askInfluence(index.name, query, TOP_K, signal);
    fill(stage, result(index, answer, timings));
    live.textContent = announcement(index, answer);
    document.title = `${query} · ${index.title}`;
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    if (!signal.aborted) stage.removeAttribute("aria-busy");
  }
}

/** Does what the address says, and shows what went wrong, with a way to try again. */
function run(): void {
  follow().catch((error: unknown) => {
    const again = element("button", { type: "button" }, "Try again");
    again.addEventListener("click", run);
    const sentence = error instanceof Error ? error.message : String(error);
    fill(stage, element("div", { class: "failure", role: "alert" }, element("p", {}, sentence), again));
  });
}

byId("indexes").addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement)
    location.hash = `#${new URLSearchParams({ index: event.target.value })}`;
});
byId("skip").addEventListener("click", (event) => {
  // Not by the address, which says what is shown.
  event.preventDefault();
  byId("result-start").focus();
});
addEventListener("hashchange", run);
fill(stage, loadingResult(TOP_K));
run();
