/** The two notations of an answer that is written piece by piece: where maps and lists begin and end, and how a number is put down. */
import { writeByte, writeBytes, writeFloat64, writeText, writeUint16, writeUint32 } from "./answer-bytes.ts";
import { packr } from "./body.ts";

/** Whoever writes says how many entries or items follow, and calls `next` between two of them. */
export interface Notation {
  beginMap(entries: number): void;
  endMap(): void;
  beginList(items: number): void;
  endList(): void;
  next(): void;
  /** The name of an entry, of fewer than 32 characters, all of them ASCII and none to escape; its value follows. */
  name(text: string): void;
  number(value: number): void;
  /** A whole number, 0 ≤ value < 2³². */
  count(value: number): void;
  flag(value: boolean): void;
  /** Every entry of `values`, of which there is at least one: for what is kept, because it takes longer than all of the above. */
  entries(values: object): void;
}

/** What JSON.stringify writes. */
export const json: Notation = {
  beginMap: () => writeText("{"),
  endMap: () => writeText("}"),
  beginList: () => writeText("["),
  endList: () => writeText("]"),
  next: () => writeText(","),
  name: (text) => writeText(`"${text}":`),
  number: (value) => writeText(String(value)),
  count: (value) => writeText(String(value)),
  flag: (value) => writeText(String(value)),
  entries: (values) => writeText(JSON.stringify(values).slice(1, -1)),
};

/** fixmap, fixarray and fixstr hold their length; a map or array of more has it in the 16 bits that follow. */
const [FIXMAP, FIXARRAY, FIXSTR, ARRAY16, MAP16] = [0x80, 0x90, 0xa0, 0xdc, 0xde];
const [FALSE, TRUE, FLOAT64, UINT32] = [0xc2, 0xc3, 0xcb, 0xce];
/** Bytes that msgpackr takes for the head of a plain object, whatever its size. */
const PACKED_HEAD = 3;

function writeLength(fixed: number, wide: number, count: number): void {
  if (count < 16) {
    writeByte(fixed | count);
  } else {
    writeByte(wide);
    writeUint16(count);
  }
}

const nothing = () => {};

/** MessagePack. A number that is put down by itself is a float64. */
export const messagePack: Notation = {
  beginMap: (entries) => writeLength(FIXMAP, MAP16, entries),
  endMap: nothing,
  beginList: (items) => writeLength(FIXARRAY, ARRAY16, items),
  endList: nothing,
  next: nothing,
  name(text) {
    writeByte(FIXSTR | text.length);
    writeText(text);
  },
  number(value) {
    writeByte(FLOAT64);
    writeFloat64(value);
  },
  count(value) {
    // Less than 128 is its own byte.
    if (value < 0x80) {
      writeByte(value);
    } else {
      writeByte(UINT32);
      writeUint32(value);
    }
  },
  flag: (value) => writeByte(value ? TRUE : FALSE),
  entries: (values) => writeBytes(packr.pack(values).subarray(PACKED_HEAD)),
};
