/** Values of command-line options, checked where they are read. */
import { InvalidArgumentError } from "commander";

/** Throws InvalidArgumentError unless the text is a positive integer. */
export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError(`expected a positive integer, got ${text}.`);
  return value;
}

export function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError(`expected a whole number, got ${text}.`);
  return Number(text);
}

/** Bytes of "4GB", "1.5 GB", "512MB", "800000000". Throws InvalidArgumentError for anything else. */
export function byteCount(text: string): number {
  const [, number, unit = "B"] = /^(\d+(?:\.\d+)?)\s*([KMG]?B?)$/i.exec(text.trim()) ?? [];
  if (number === undefined) {
    throw new InvalidArgumentError(`expected a size such as 4GB or 800MB, got ${JSON.stringify(text)}.`);
  }
  return Math.floor(Number(number) * { K: 1e3, M: 1e6, G: 1e9, B: 1 }[unit[0]?.toUpperCase() ?? "B"]!);
}
