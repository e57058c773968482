/**
 * Text as bytes, written from left to right into memory that is used again. An answer is made of pieces that are kept as bytes; as strings
 * they would be joined, measured and encoded for every answer, which costs several times as much (measured in workerd).
 */

const KEPT = 65_536;

let written = new Uint8Array(KEPT);
let length = 0;

/** Begins a text; nothing may wait between here and `endText`. */
export function beginText(): void {
  length = 0;
}

function reserve(more: number): void {
  if (length + more <= written.length) return;
  const larger = new Uint8Array(Math.max(2 * written.length, length + more));
  larger.set(written.subarray(0, length));
  written = larger;
}

export function writeBytes(bytes: Uint8Array): void {
  reserve(bytes.length);
  written.set(bytes, length);
  length += bytes.length;
}

/** Writes characters of ASCII. */
export function writeAscii(text: string): void {
  reserve(text.length);
  for (let at = 0; at < text.length; at++) written[length++] = text.charCodeAt(at);
}

/** The text so far, in memory of its own. */
export function endText(): Uint8Array<ArrayBuffer> {
  const text = written.slice(0, length);
  if (written.length > KEPT) written = new Uint8Array(KEPT);
  return text;
}
