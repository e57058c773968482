/**
 * Whether a MessagePack value can be decoded safely: every length that it announces fits into the bytes that are there (a
 * decoder reserves room for an announced array before it reads it), the keys of maps are strings (a decoder makes
 * properties of them), and it is not nested deeper than any request is.
 */

const MAX_DEPTH = 4;

/**
 * Throws RangeError for an announced length beyond the bytes left, a key that is no string, deep nesting, and bytes after
 * the value.
 */
export function checkNesting(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = skip(view, 0, 0);
  if (end !== bytes.length) throw new RangeError(`${bytes.length - end} bytes after the value`);
}

/** The offset after the value at `at`. Formats by first byte: MessagePack specification, "Formats". */
function skip(view: DataView, at: number, depth: number): number {
  if (depth > MAX_DEPTH) throw new RangeError(`nesting deeper than ${MAX_DEPTH}`);
  const first = byte(view, at);
  if (first <= 0x7f || first >= 0xe0) return at + 1;
  if (first <= 0x8f) return entries(view, at + 1, first & 15, depth);
  if (first <= 0x9f) return many(view, at + 1, first & 15, depth);
  if (first <= 0xbf) return within(view, at + 1, first & 31);
  switch (first) {
    case 0xc0: // nil, false, true
    case 0xc2:
    case 0xc3:
      return at + 1;
    case 0xcc: // integers and floats
    case 0xd0:
      return within(view, at + 1, 1);
    case 0xcd:
    case 0xd1:
      return within(view, at + 1, 2);
    case 0xce:
    case 0xd2:
    case 0xca:
      return within(view, at + 1, 4);
    case 0xcf:
    case 0xd3:
    case 0xcb:
      return within(view, at + 1, 8);
    case 0xc4: // bin, str: length of 1, 2 or 4 bytes
    case 0xd9:
      return within(view, at + 2, length(view, at + 1, 1));
    case 0xc5:
    case 0xda:
      return within(view, at + 3, length(view, at + 1, 2));
    case 0xc6:
    case 0xdb:
      return within(view, at + 5, length(view, at + 1, 4));
    case 0xdc: // array, map
      return many(view, at + 3, length(view, at + 1, 2), depth);
    case 0xdd:
      return many(view, at + 5, length(view, at + 1, 4), depth);
    case 0xde:
      return entries(view, at + 3, length(view, at + 1, 2), depth);
    case 0xdf:
      return entries(view, at + 5, length(view, at + 1, 4), depth);
    default:
      throw new RangeError(`a value of type 0x${first.toString(16)}`);
  }
}

function many(view: DataView, at: number, count: number, depth: number): number {
  if (at + count > view.byteLength) throw new RangeError(`${count} values in ${view.byteLength - at} bytes`);
  let next = at;
  for (let index = 0; index < count; index++) next = skip(view, next, depth + 1);
  return next;
}

function entries(view: DataView, at: number, count: number, depth: number): number {
  if (at + 2 * count > view.byteLength) throw new RangeError(`${count} entries in ${view.byteLength - at} bytes`);
  let next = at;
  for (let index = 0; index < count; index++) {
    const first = byte(view, next);
    const isString = (first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb);
    if (!isString) throw new RangeError(`a key of type 0x${first.toString(16)}, not a string`);
    next = skip(view, skip(view, next, depth + 1), depth + 1);
  }
  return next;
}

function within(view: DataView, at: number, length: number): number {
  if (at + length > view.byteLength) throw new RangeError(`${length} bytes where ${view.byteLength - at} are left`);
  return at + length;
}

function byte(view: DataView, at: number): number {
  within(view, at, 1);
  return view.getUint8(at);
}

function length(view: DataView, at: number, size: 1 | 2 | 4): number {
  within(view, at, size);
  return size === 1 ? view.getUint8(at) : size === 2 ? view.getUint16(at) : view.getUint32(at);
}
