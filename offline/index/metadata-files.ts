/** What an index says of each example beside its vector: ids and columns, written some rows at a time. */
import { Packr } from "msgpackr";
import type { Cell } from "../dataset/column.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { openWriter } from "./index-files.ts";
import type { MeasuredPart, Measures } from "./measures.ts";

/** Plain maps: the record structures of msgpackr compile code, which Workers forbid. */
const msgpack = new Packr({ useRecords: false });

/** Seven significant digits, a float32's worth, so that JSON does not carry seventeen. */
const sevenDigits = (value: number): number => Number(value.toPrecision(7));

/** MessagePack's map 16 and array 32. */
const mapHead = (entries: number) => Uint8Array.of(0xde, entries >> 8, entries & 255);
const arrayHead = (length: number) => {
  const head = Buffer.from([0xdd, 0, 0, 0, 0]);
  head.writeUInt32BE(length, 1);
  return head;
};

/** The values of an array without its head: 1 byte up to 15 of them, 3 up to 65,535. */
const packCells = (cells: readonly Cell[]): Uint8Array => msgpack.pack(cells).subarray(cells.length < 16 ? 1 : 3);

type Read = (part: MeasuredPart) => Cell[] | Promise<Cell[]>;

/** Writes ids and columns of the examples measured; a loss or prediction nobody knows is left out. Returns the columns' names. */
export async function writeMetadata(
  path: string,
  dataset: Pick<Dataset, "ids" | "columns">,
  measures: Measures,
  withSelfInfluence: boolean,
): Promise<string[]> {
  const rowsOf = ({ rows }: MeasuredPart) => Array.from(rows);
  const columns = new Map<string, Read>(dataset.columns.map(({ name, read }) => [name, (part) => read(rowsOf(part))]));
  if (measures.predicted) columns.set("prediction", ({ prediction }) => Array.from(prediction));
  if (measures.lossKnown) columns.set("loss", ({ loss }) => Array.from(loss, sevenDigits));
  if (withSelfInfluence) columns.set("selfInfluence", ({ selfInfluence }) => Array.from(selfInfluence, sevenDigits));

  const writer = openWriter(path);
  const writeArray = async (name: string, read: Read) => {
    writer.write(msgpack.pack(name));
    writer.write(arrayHead(measures.n));
    for (const part of measures.parts()) writer.write(packCells(await read(part)));
  };
  try {
    writer.write(mapHead(2));
    await writeArray("ids", (part) => dataset.ids(rowsOf(part)));
    writer.write(msgpack.pack("columns"));
    writer.write(mapHead(columns.size));
    for (const [name, read] of columns) await writeArray(name, read);
    return [...columns.keys()];
  } finally {
    writer.close();
  }
}
