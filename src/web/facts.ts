/** What the index is: how many examples, how many coordinates, how it was made, how far it was verified. */
import type { IndexDescription } from "../schema.ts";
import { byId, element, fill } from "./element.ts";
import { columnName, counted, short } from "./wording.ts";

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
  const verified = Object.entries(index.fidelity ?? {}).map(([name, value]): [string, string] => [
    columnName(name),
    typeof value === "number" ? short(value) : value,
  ]);
  const rows = (entries: [string, string][]) =>
    entries.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  fill(
    byId("facts"),
    element("dl", {}, ...rows(facts)),
    verified.length > 0 && element("h3", {}, "Measured against exact influence"),
    verified.length > 0 && element("dl", {}, ...rows(verified)),
  );
}
