/**
 * IDX, the format of the MNIST files: two zero bytes, a type code, the number of axes, big-endian extents, then the values.
 * Only unsigned bytes (type 0x08) occur in the wild; other types are refused.
 */
import { type NumberColumn, openFile, rawColumn, readExactly } from "./column.ts";

export function openIdx(path: string): NumberColumn {
  const { descriptor, size } = openFile(path);
  const head = Buffer.from(readExactly(path, descriptor, 0, 4));
  const [zero0, zero1, type, axes = 0] = head;
  if (zero0 !== 0 || zero1 !== 0 || type !== 8 || axes < 1 || axes > 4) {
    throw new Error(
      `${path}: expected an IDX file of unsigned bytes (first bytes 00 00 08 and the number of axes), got ${head.toString("hex")}`,
    );
  }
  const extents = Buffer.from(readExactly(path, descriptor, 4, 4 * axes));
  const shape = Array.from({ length: axes }, (_, axis) => extents.readUInt32BE(4 * axis));
  return rawColumn({ path, descriptor, start: 4 + 4 * axes, type: "uint8", shape, size });
}
