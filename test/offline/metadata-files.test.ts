import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Unpackr } from "msgpackr";
import { expect, test } from "vitest";
import { openMeasures } from "../../offline/index/measures.ts";
import { writeMetadata } from "../../offline/index/metadata-files.ts";

/** Writes the metadata of `n` examples, every third of which was left out. */
async function written(n: number): Promise<unknown> {
  const folder = mkdtempSync(join(tmpdir(), "metadata-"));
  const measures = openMeasures(join(folder, "measures"));
  for (let row = 0; row < n; row++) {
    if (row % 3 === 2) continue;
    const block = {
      rows: 1,
      gradients: new Float32Array(),
      index: Uint32Array.of(row),
      loss: Float32Array.of(row / 7),
      prediction: Int32Array.of((row % 5) - 1),
    };
    measures.add(block, 0, -row / 11);
  }
  const dataset = {
    ids: async (rows: readonly number[]) => rows.map((row) => `id ${row}`),
    columns: [
      { name: "text", read: async (rows: readonly number[]) => rows.map((row) => "é".repeat(row % 9)) },
      { name: "odd", read: async (rows: readonly number[]) => rows.map((row) => (row % 2 === 1 ? true : null)) },
    ],
  };
  const path = join(folder, "examples.msgpack");
  await writeMetadata(path, dataset, measures, true);
  measures.remove();
  return new Unpackr({ useRecords: false }).unpack(readFileSync(path));
}

// One part and a little, many parts, parts that end where the rows do, and fewer values than an array's head could count.
for (const n of [3, 17, 6144, 15_000]) {
  test(`metadata written in parts reads as one map: ${n} rows`, async () => {
    const rows = Array.from({ length: n }, (_, row) => row).filter((row) => row % 3 !== 2);
    const digits = (value: number) => Number(value.toPrecision(7));
    expect(await written(n)).toEqual({
      ids: rows.map((row) => `id ${row}`),
      columns: {
        text: rows.map((row) => "é".repeat(row % 9)),
        odd: rows.map((row) => (row % 2 === 1 ? true : null)),
        prediction: rows.map((row) => (row % 5) - 1),
        loss: rows.map((row) => digits(Math.fround(row / 7))),
        selfInfluence: rows.map((row) => digits(-row / 11)),
      },
    });
  });
}
