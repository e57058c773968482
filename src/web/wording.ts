/** How values of the API read to a person. */
import type { IndexDescription, Row } from "../schema.ts";

type Cell = Row[string];

const MINUS = "\u2212";

/** 60000 → "60,000". */
export const counted = (value: number): string => value.toLocaleString("en-US");

/** Three significant digits, with a real minus sign: −0.0123. A whole number is shown whole. */
export function short(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e6 ? String(value).replace("-", MINUS) : rounded(value);
}

/** An influence: always with its sign, always three significant digits, so that a column of them lines up. */
export const signed = (value: number): string => (value > 0 ? "+" : "") + rounded(value);

function rounded(value: number): string {
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : "";
  if (size >= 1e6 || size < 1e-3) return sign + size.toExponential(2).replace("e-", `e${MINUS}`).replace("e+", "e");
  return sign + (size >= 1e3 ? counted(Math.round(size)) : size.toPrecision(3));
}

/** "0.4 ms", "12 ms". A clock of whole milliseconds says 0 for what took less. */
export function duration(milliseconds: number): string {
  if (milliseconds < 1) return "under 1 ms";
  return `${milliseconds < 10 ? Number(milliseconds.toFixed(1)) : Math.round(milliseconds)} ms`;
}

/** A label by its name, where the index names its classes. */
export function className(index: IndexDescription, label: Cell | undefined): string {
  if (label === undefined || label === null) return "";
  return (typeof label === "number" ? index.classes?.[label] : undefined) ?? String(label);
}

/** Any other column's value. */
export function cell(value: Cell | undefined): string {
  if (typeof value === "number") return short(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value ?? "none");
}

/** selfInfluence → "self influence". */
export const columnName = (name: string): string => name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();

/** Columns that the page shows in their own way. */
const SHOWN = new Set(["id", "image", "influence", "label", "prediction", "loss", "flipped", "was"]);

/** All other columns of a row, by name. */
export function otherColumns(row: Row): [string, Cell][] {
  return Object.entries(row).filter(([name, value]) => !SHOWN.has(name) && value !== undefined);
}

/** True where the model's prediction is not the label; undefined where either is unknown. */
export function isWrong(row: Row): boolean | undefined {
  if (row.prediction === undefined || row.label === undefined) return undefined;
  return row.prediction !== row.label;
}
