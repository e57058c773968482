/**
 * An answer as bytes, written from left to right into memory that is used again. It is made of pieces that are kept as bytes; as strings
 * or objects they would be joined, measured and encoded for every answer, which costs several times as much (measured in workerd).
 */

const KEPT = 65_536;
const encoder = new TextEncoder();

let written = new Uint8Array(KEPT);
let view = new DataView(written.buffer);
let length = 0;

function writeInto(memory: Uint8Array<ArrayBuffer>): void {
  written = memory;
  view = new DataView(memory.buffer);
}

/** Begins an answer; nothing may wait between here and `endBytes`. */
export function beginBytes(): void {
  length = 0;
}

/** Where the next byte is put. */
export const position = (): number => length;

function reserve(more: number): void {
  if (length + more <= written.length) return;
  const larger = new Uint8Array(Math.max(2 * written.length, length + more));
  larger.set(written.subarray(0, length));
  writeInto(larger);
}

export function writeBytes(bytes: Uint8Array): void {
  reserve(bytes.length);
  written.set(bytes, length);
  length += bytes.length;
}

export function writeByte(byte: number): void {
  reserve(1);
  written[length++] = byte;
}

/** Big-endian. */
export function writeUint16(value: number): void {
  reserve(2);
  view.setUint16(length, value);
  length += 2;
}

/** Big-endian. */
export function writeUint32(value: number): void {
  reserve(4);
  view.setUint32(length, value);
  length += 4;
}

/** Big-endian. */
export function writeFloat64(value: number): void {
  reserve(8);
  view.setFloat64(length, value);
  length += 8;
}

/** In UTF-8. */
export function writeText(text: string): void {
  // A UTF-16 unit takes three bytes at most.
  reserve(3 * text.length);
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 0x7f) {
      length += encoder.encodeInto(text.slice(at), written.subarray(length)).written;
      return;
    }
    written[length++] = code;
  }
}

/** What was written from `start` on, in memory of its own. */
export const bytesSince = (start: number): Uint8Array => written.slice(start, length);

/** The whole answer, in memory of its own. */
export function endBytes(): Uint8Array<ArrayBuffer> {
  const bytes = written.slice(0, length);
  if (written.length > KEPT) writeInto(new Uint8Array(KEPT));
  return bytes;
}
