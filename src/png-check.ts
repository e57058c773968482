/** Whether the bytes are one whole PNG file, by the checksum that each of its chunks carries (PNG specification, §5). */
import { crc32 } from "./core/crc32.ts";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const END = 0x49454e44;

/** What is wrong with the file, or null. Chunk: u32 length, u32 type, data, u32 crc32 of type and data; big-endian. */
export function pngFault(bytes: Uint8Array): { expected: string; got: string } | null {
  if (!SIGNATURE.every((byte, index) => bytes[index] === byte)) return { expected: "a PNG file", got: "other bytes" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = SIGNATURE.length;
  let type = 0;
  while (at + 12 <= bytes.length && type !== END) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > bytes.length) return { expected: "a chunk within the file", got: "a longer one" };
    type = view.getUint32(at + 4);
    const expected = view.getUint32(end);
    const got = crc32(bytes.subarray(at + 4, end));
    if (got !== expected) return { expected: `crc32 ${expected}`, got: `crc32 ${got}` };
    at = end + 4;
  }
  if (type !== END || at !== bytes.length) return { expected: "a PNG file that ends here", got: "another end" };
  return null;
}
