/**
 * Many small pictures in one file, so that one is two range reads away: the header, u32 offsets [n + 1] from the start of the
 * file, then the PNG files one after another. Every chunk of a PNG carries its own CRC.
 */
import { encodeHeader, HEADER_BYTES } from "./header.ts";

/** Where the two offsets of image `index` lie. */
export function offsetsRange(index: number): { offset: number; length: number } {
  return { offset: HEADER_BYTES + 4 * index, length: 8 };
}

/** The bytes of an image, from the 8 bytes that `offsetsRange` names. */
export function imageRange(offsets: Uint8Array): { offset: number; length: number } {
  const view = new DataView(offsets.buffer, offsets.byteOffset, 8);
  const start = view.getUint32(0, true);
  return { offset: start, length: view.getUint32(4, true) - start };
}

/** The part of the file before the pictures. `lengths`: bytes of each picture. Throws RangeError beyond 4 GiB. */
export function imagePackHead(lengths: ArrayLike<number>): Uint8Array {
  const head = new Uint8Array(HEADER_BYTES + 4 * (lengths.length + 1));
  head.set(encodeHeader({ kind: "images", n: lengths.length, dimension: 0, stride: 0 }));
  const view = new DataView(head.buffer);
  let offset = head.length;
  for (let index = 0; index < lengths.length; index++) {
    view.setUint32(HEADER_BYTES + 4 * index, offset, true);
    offset += lengths[index];
    if (offset > 0xffffffff) throw new RangeError(`images: expected at most 4 GiB in all, got more at image ${index}`);
  }
  view.setUint32(HEADER_BYTES + 4 * lengths.length, offset, true);
  return head;
}
