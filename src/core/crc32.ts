/** CRC-32 (ISO 3309; reflected polynomial 0xEDB88320, as zlib's), eight bytes a step: slicing-by-8 (Kounavis & Berry, 2005). */

/** [8][256]: TABLE[s·256 + b] is the remainder of byte b followed by s zero bytes. */
const TABLE = new Uint32Array(8 * 256);
for (let byte = 0; byte < 256; byte++) {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0xedb88320 : 0);
  TABLE[byte] = remainder;
}
for (let entry = 256; entry < TABLE.length; entry++) {
  const shorter = TABLE[entry - 256];
  TABLE[entry] = (shorter >>> 8) ^ TABLE[shorter & 255];
}

/** The checksum of `bytes`, an unsigned 32-bit integer. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    crc ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    crc =
      TABLE[7 * 256 + (crc & 255)] ^
      TABLE[6 * 256 + ((crc >>> 8) & 255)] ^
      TABLE[5 * 256 + ((crc >>> 16) & 255)] ^
      TABLE[4 * 256 + (crc >>> 24)] ^
      TABLE[3 * 256 + bytes[at + 4]] ^
      TABLE[2 * 256 + bytes[at + 5]] ^
      TABLE[256 + bytes[at + 6]] ^
      TABLE[bytes[at + 7]];
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[at]) & 255];
  return ~crc >>> 0;
}
