/** mask.bin: the header (n: layers, dimension: R), then the kept positions [R] u32, the layers' blocks one after another. */
import { checkHeader, encodeHeader, HEADER_BYTES } from "./header.ts";
import type { MaskBlock } from "./mask.ts";

export function encodeMask(blocks: readonly MaskBlock[]): Uint8Array {
  const dimension = blocks.reduce((sum, { kept }) => sum + kept.length, 0);
  const bytes = new Uint8Array(HEADER_BYTES + 4 * dimension);
  bytes.set(encodeHeader({ kind: "mask", n: blocks.length, dimension, stride: 0 }));
  const view = new DataView(bytes.buffer);
  for (const { offset, kept } of blocks) {
    kept.forEach((position, index) => {
      view.setUint32(HEADER_BYTES + 4 * (offset + index), position, true);
    });
  }
  return bytes;
}

/** The blocks of a mask file for the layers that the manifest lists. Throws CorruptIndexError if the header does not fit them. */
export function decodeMask(
  bytes: Uint8Array,
  layers: readonly { name: string; offset: number; r: number; d: number }[],
): MaskBlock[] {
  const dimension = layers.reduce((sum, { r }) => sum + r, 0);
  checkHeader("mask.bin", bytes, { kind: "mask", n: layers.length, dimension, stride: 0 });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return layers.map(({ name, offset, r, d }) => ({
    layer: name,
    offset,
    d,
    kept: Uint32Array.from({ length: r }, (_, index) => view.getUint32(HEADER_BYTES + 4 * (offset + index), true)),
  }));
}
