/** A table as a plot: one line (or, over names, one dot) for each method, a panel for each facet, bars of one standard deviation or from worst to best. */
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { Plot as PlotOptions } from "./experiment.ts";
import type { Summary } from "./table.ts";

/** An SVG document. */
export function plotOf(
  summaries: readonly Summary[],
  { x, y, line, facet, logarithmic, label, only, bars }: PlotOptions,
): string {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const points = summaries.flatMap(({ of, values }) => {
    const value = values[y];
    if (!value || of[x] === undefined || (only && !only(of))) return [];
    return {
      x: of[x],
      y: value.mean,
      low: bars === "range" ? value.least : value.mean - value.deviation,
      high: bars === "range" ? value.most : value.mean + value.deviation,
      line: String(of[line] ?? ""),
      facet: String(of[facet] ?? ""),
    };
  });
  const numeric = points.every((point) => typeof point.x === "number");
  const facets = [...new Set(points.map((point) => point.facet))];
  const lines = [...new Set(points.map((point) => point.line))];
  const marks = [
    Plot.ruleX(points, { x: "x", y1: "low", y2: "high", stroke: "line", fx: "facet", strokeOpacity: 0.5 }),
    ...(numeric ? [Plot.lineY(points, { x: "x", y: "y", stroke: "line", z: "line", fx: "facet" })] : []),
    Plot.dot(points, { x: "x", y: "y", fill: "line", fx: "facet", r: 3 }),
  ];
  const figure = Plot.plot({
    document,
    width: 260 * facets.length + 320,
    height: numeric ? 360 : 460,
    marginRight: 200,
    marginBottom: numeric ? 40 : 160,
    style: { fontFamily: "system-ui, sans-serif", fontSize: "11px", background: "white" },
    x: numeric
      ? { type: logarithmic ? "log" : "linear", label: x, ...(logarithmic ? { base: 2 } : {}) }
      : { type: "point", label: null, tickRotate: -50 },
    fx: { label: null, domain: facets },
    y: { label, grid: true },
    color: { domain: lines, scheme: "Tableau10" },
    marks,
  });
  const svg = figure.tagName.toLowerCase() === "svg" ? figure : figure.querySelector("svg");
  if (!svg) throw new Error("plot: expected an SVG element, got none");
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  // The legend, by hand: Plot draws its own outside the SVG. Colours as Tableau10 gives them, in the order of the domain.
  const width = Number(svg.getAttribute("width"));
  const legend = lines
    .map((name, index) => {
      const top = 24 + 16 * index;
      return `<circle cx="${width - 186}" cy="${top}" r="4" fill="${TABLEAU[index % TABLEAU.length]}"/><text x="${width - 176}" y="${top + 4}" text-anchor="start" fill="#222">${escaped(name)}</text>`;
    })
    .join("");
  return `${svg.outerHTML.replace(/<\/svg>\s*$/, `${legend}</svg>`)}\n`;
}

const TABLEAU = [
  "#4e79a7",
  "#f28e2c",
  "#e15759",
  "#76b7b2",
  "#59a14f",
  "#edc949",
  "#af7aa1",
  "#ff9da7",
  "#9c755f",
  "#bab0ab",
];

const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
