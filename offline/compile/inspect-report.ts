/** What `inspect` found, as a person reads it. */
import type { Inspection } from "./inspect.ts";

/** Rows of cells in columns as wide as their widest cell, two spaces between. */
export function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const count = (value: number) => value.toLocaleString("en");
const extents = (shape: readonly (string | number)[]) => `[${shape.join(", ")}]`;

/** Inputs and outputs, a table of layers, the share covered and the cost of collecting. */
export function inspectReport({ inputs, outputs, dynamicAxes, layers, covered, relativeCost }: Inspection): string {
  const table = layers.map(({ name, operators, parameters, d, uncovered, trained, plans }) => [
    name,
    operators.join(" "),
    parameters.map(({ shape }) => extents(shape)).join(" "),
    count(d),
    uncovered ?? (trained ? [...new Set(plans.map(({ by, kind }) => `${by}: ${kind}`))].join(", ") : "not trained"),
  ]);
  const ports = (title: string, list: Inspection["inputs"]) =>
    list.map(({ name, type, shape }) => [title, name, type, extents(shape)]);
  return [
    aligned([...ports("input", inputs), ...ports("output", outputs)]),
    `free axes: ${dynamicAxes.join(", ") || "none"}`,
    "",
    aligned([["layer", "operators", "shapes", "parameters", "kept by: gathered by, or why not"], ...table]),
    "",
    `parameters covered: ${(100 * covered).toFixed(1)} %`,
    `collecting costs about ${relativeCost.toFixed(1)} × a forward pass (estimated)`,
  ].join("\n");
}
