/** Values of command-line options, checked where they are read. */
import { InvalidArgumentError } from "commander";

/** Throws InvalidArgumentError unless the text is a positive integer. */
export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError(`expected a positive integer, got ${text}.`);
  return value;
}
