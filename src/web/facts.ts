/** What the index is: how many examples, how many coordinates, how it was made. */
import type { IndexDescription } from "../schema.ts";
import { byId, element, fill } from "./element.ts";
import { counted } from "./wording.ts";

export function showFacts(index: IndexDescription): void {
  const parameters = index.layers.reduce((sum, { d }) => sum + d, 0);
  const facts: [string, string][] = [
    ["Index", index.title],
    ["Training examples", counted(index.n)],
    ["Gradient coordinates kept (R)", `${counted(index.dimension)} of ${counted(parameters)}`],
    ["Layers", index.layers.map(({ name, r }) => `${name} ${counted(r)}`).join(", ")],
    ["Compression", index.compressor.kind],
    ["Damping", index.dampingRule],
    ["Loss", index.loss],
    ["Version", index.version],
  ];
  const rows = (entries: [string, string][]) =>
    entries.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  fill(byId("facts"), element("dl", {}, ...rows(facts)));
}
