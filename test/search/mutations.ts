/** Files and manifests with something altered in them, for tests of what refuses them. */
import { type Manifest, manifestSchema } from "../../src/core/manifest.ts";
import type { Random } from "../../src/core/random.ts";

/** The name of the error that `run` throws, null where it throws none. */
export function thrown(run: () => unknown): string | null {
  try {
    run();
    return null;
  } catch (error) {
    return error instanceof Error ? error.name : "not an error";
  }
}

/** The manifest that `text` is, null where it is none. */
export function parsed(text: string): Manifest | null {
  try {
    return manifestSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** A copy with bits flipped, bytes set, or its end cut off or extended. */
export function mutate(bytes: Uint8Array, generator: Random): Uint8Array {
  const length = [bytes.length, bytes.length, generator.below(bytes.length + 1), bytes.length + generator.below(64)];
  const copy = new Uint8Array(length[generator.below(4)]);
  copy.set(bytes.subarray(0, copy.length));
  for (let times = generator.below(4); times > 0 && copy.length > 0; times--) {
    copy[generator.below(copy.length)] = [0, 1, 127, 255, generator.below(256)][generator.below(5)];
  }
  return copy;
}

/** The text with a number or a run of characters replaced. */
export function mutateText(text: string, generator: Random): string {
  const at = generator.below(text.length);
  if (generator.below(2) === 0) {
    const numbers = [...text.matchAll(/(?<=[:,[])\d+/g)];
    const number = numbers[generator.below(numbers.length)];
    const other = ["0", "1", "-1", "4294967296", "1e300", "1.5", String(generator.below(1000))][generator.below(7)];
    return text.slice(0, number.index) + other + text.slice(number.index + number[0].length);
  }
  const character = String.fromCharCode(32 + generator.below(95));
  return text.slice(0, at) + character + text.slice(at + 1);
}
