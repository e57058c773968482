/** A table as a plot: one line (or, over names, one dot) for each method, a panel for each facet, bars of one standard deviation or from worst to best. */
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { Measurement } from "./measurement.ts";
import type { Summary } from "./table.ts";

export interface PlotOptions {
  /** Which columns of the table go where; `facet` gives one panel a value. */
  x: string;
  y: string;
  line: string;
  facet: string;
  logarithmic: boolean;
  /** Whether y is logarithmic too; not by default. */
  logarithmicY?: boolean;
  label: string;
  /** One standard deviation (the default), or from the least to the largest. */
  bars?: "deviation" | "range";
  /** Rows of the table that are drawn; all by default. */
  only?: (of: Measurement["of"]) => boolean;
}

/** An SVG document. */
export function plotOf(
  summaries: readonly Summary[],
  { x, y, line, facet, logarithmic, logarithmicY, label, only, bars }: PlotOptions,
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
    width: 270 * facets.length + LEGEND + 60,
    height: numeric ? 360 : 460,
    marginRight: LEGEND,
    marginTop: 44,
    marginBottom: numeric ? 40 : 160,
    style: { fontFamily: "system-ui, sans-serif", fontSize: "11px", background: "white" },
    x: numeric
      ? { type: logarithmic ? "log" : "linear", label: x, ...(logarithmic ? { base: 2 } : {}) }
      : { type: "point", label: null, tickRotate: -50 },
    fx: { label: null, domain: facets, padding: 0.12 },
    y: { type: logarithmicY ? "log" : "linear", label, grid: true },
    color: { domain: lines, range: lines.map(colourOf) },
    marks,
  });
  const svg = figure.tagName.toLowerCase() === "svg" ? figure : figure.querySelector("svg");
  if (!svg) throw new Error("plot: expected an SVG element, got none");
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  // The legend, by hand: Plot draws its own outside the SVG.
  const width = Number(svg.getAttribute("width"));
  const legend = lines
    .map((name, index) => {
      const top = 48 + 16 * index;
      return `<circle cx="${width - LEGEND + 16}" cy="${top}" r="4" fill="${colourOf(name, index)}"/><text x="${width - LEGEND + 26}" y="${top + 4}" text-anchor="start" fill="#222">${escaped(name)}</text>`;
    })
    .join("");
  return `${svg.outerHTML.replace(/<\/svg>\s*$/, `${legend}</svg>`)}\n`;
}

/** Room for the names at the right, in pixels. */
const LEGEND = 270;

/** Tableau's ten colours, then dark and light ones. */
const COLOURS =
  "#4e79a7 #f28e2b #e15759 #76b7b2 #59a14f #edc948 #b07aa1 #ff9da7 #9c755f #79706e #1b3a5c #8c4f00 #7a1f21 #2b6f6a #1f5c1a #a0cbe8 #ffbe7d #d37295 #d4a6c8 #d7b5a6".split(
    " ",
  );
const colourOf = (_: string, index: number): string => COLOURS[index % COLOURS.length] ?? "black";

const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
