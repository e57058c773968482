import { mkdtempSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { configSchema } from "../../offline/command/config.ts";
import type { Column } from "../../offline/dataset/column.ts";
import { type Dataset, openDataset } from "../../offline/dataset/dataset.ts";
import { openColumn } from "../../offline/dataset/open-column.ts";

const folder = resolve("fixtures/datasets");
const expected: { x: number[][]; y: number[]; ids: string[]; text: string[]; tokens: number[][] } = JSON.parse(
  readFileSync(join(folder, "expected.json"), "utf8"),
);
const scratch = () => mkdtempSync(join(tmpdir(), "scratch-"));
const open = (entry: { file: string | string[]; column?: string; format?: "npy" }, from = folder): Promise<Column> =>
  openColumn({ divideBy: 1, ...entry }, from, scratch());

/** Rows out of order, with a run of neighbours: what a shuffled and a sequential reader ask for. */
const rows = [19, 3, 4, 5, 0];

describe("every format gives the rows that its own library wrote", () => {
  for (const [name, entry] of Object.entries({
    npy: { file: "x.npy" },
    npz: { file: "plain.npz", column: "x" },
    "compressed npz": { file: "compressed.npz", column: "x" },
    safetensors: { file: "all.safetensors", column: "x" },
  })) {
    test(`${name}: numbers of fixed extents`, async () => {
      const column = await open(entry);
      if (column.kind !== "numbers") throw new Error("expected numbers");
      expect({ n: column.n, extents: column.extents }).toEqual({ n: 20, extents: [2, 3] });
      expect(Array.from(await column.read(rows), Number)).toEqual(rows.flatMap((row) => expected.x[row]!));
    });
  }

  for (const [name, file] of Object.entries({
    "JSON Lines": "rows.jsonl",
    "gzipped JSON Lines": "rows.jsonl.gz",
    "Parquet in two files of several row groups": "part-*.parquet",
  })) {
    test(`${name}: text, integers and lists`, async () => {
      const text = await open({ file, column: "text" });
      expect(text.n).toBe(20);
      expect(await text.read(rows)).toEqual(rows.map((row) => expected.text[row]));
      expect(Array.from(await (await open({ file, column: "label" })).read(rows), Number)).toEqual(
        rows.map((row) => expected.y[row]),
      );
      expect(await (await open({ file, column: "x" })).read([7])).toEqual([expected.x[7]]);
    });
  }

  test("half precision is widened", async () => {
    const column = await open({ file: "all.safetensors", column: "half" });
    const [first] = Array.from(await column.read([0]), Number);
    expect(first).toBeCloseTo(expected.x[0]![0]!, 3);
  });
});

describe("a file that cannot be read says what was expected, and what it has", () => {
  const cases: [string, Parameters<typeof open>[0], RegExp][] = [
    ["missing", { file: "nowhere.npy" }, /no such dataset file: .*nowhere\.npy/],
    ["a pattern without a match", { file: "train-*.parquet" }, /nothing in .* matches train-\*\.parquet/],
    ["an unknown ending", { file: "make.py" }, /make\.py: expected a name that tells the format/],
    [
      "not what its name says",
      { file: "tokenizer.json", format: "npy" },
      /tokenizer\.json: expected a NumPy \.npy file/,
    ],
    [
      "an array it lacks",
      { file: "plain.npz", column: "z" },
      /plain\.npz: expected an array named z, the file has x, y/,
    ],
    [
      "a tensor it lacks",
      { file: "all.safetensors", column: "z" },
      /all\.safetensors: expected a tensor named z, the file has/,
    ],
    [
      "a column it lacks",
      { file: "part-0.parquet", column: "z" },
      /part-0\.parquet: expected a column named z, the file has id, text, label, x/,
    ],
    ["column-major order", { file: "fortran.npy" }, /fortran\.npy: expected row-major order, got Fortran order/],
    ["text in an array", { file: "text.npy" }, /text\.npy: expected numbers of one of the types .* got <U/],
  ];
  for (const [name, entry, message] of cases) test(name, async () => expect(open(entry)).rejects.toThrow(message));

  test("cut short", async () => {
    const where = scratch();
    writeFileSync(join(where, "x.npy"), readFileSync(join(folder, "x.npy")));
    truncateSync(join(where, "x.npy"), 300);
    await expect(open({ file: "x.npy" }, where)).rejects.toThrow(
      /x\.npy: expected 608 bytes for extents \[20, 2, 3\], got 300/,
    );
  });

  test("a line that is not JSON: its example and byte", async () => {
    const where = scratch();
    writeFileSync(join(where, "rows.jsonl"), '{"a": 1}\n\n{"a": 2\n');
    const column = await open({ file: "rows.jsonl", column: "a" }, where);
    expect(column.n).toBe(2);
    await expect(column.read([1])).rejects.toThrow(
      /rows\.jsonl: example 1 \(byte 10\): expected a JSON object on one line, got {"a": 2/,
    );
  });

  test("JSON Lines of more lines than are read at once, some empty, are read in any order", async () => {
    const where = mkdtempSync(join(tmpdir(), "lines-"));
    const lines = Array.from(
      { length: 200 },
      (_, row) => `{"a": "${"ä".repeat(row % 7)}${row}"}${row % 9 === 0 ? "\n \n" : ""}`,
    );
    writeFileSync(join(where, "rows.jsonl"), lines.join("\n"));
    const column = await open({ file: "rows.jsonl", column: "a" }, where);
    expect(column.n).toBe(200);
    const rows = [199, 0, 63, 64, 128, 65, 127];
    expect(await column.read(rows)).toEqual(rows.map((row) => `${"ä".repeat(row % 7)}${row}`));
  });
});

describe("a dataset of text", () => {
  const inputs = [
    { name: "input_ids", type: "int64", shape: ["batch", "tokens"] },
    { name: "attention_mask", type: "int64", shape: ["batch", "tokens"] },
  ];
  const target = { name: "target", type: "int64", shape: ["batch"] };

  function openText(change: Record<string, unknown> = {}): Promise<Dataset> {
    const config = configSchema.parse({
      name: "text",
      model: "none.onnx",
      train: {
        inputs: {
          input_ids: { file: "rows.jsonl", column: "text", tokenizer: "tokenizer.json", maxLength: 6 },
          attention_mask: { maskOf: "input_ids" },
        },
        target: { file: "part-*.parquet", column: "label" },
        ids: { file: "rows.jsonl", column: "id" },
        columns: { text: { file: "rows.jsonl", column: "text" } },
        ...change,
      },
    });
    return openDataset(
      { ...config, compressor: "uniform", title: "", folder },
      config.train,
      inputs,
      target,
      4,
      scratch(),
    );
  }

  test("tokens are those of the tokenizer's own library, cut to the length, padded and masked", async () => {
    const dataset = await openText();
    const feeds = await dataset.feeds([6, 0]);
    const ids = (row: number) => expected.tokens[row]!.slice(0, 6);
    const padded = (list: number[]) => [...list, ...new Array(6 - list.length).fill(0)];
    expect(feeds.input_ids!.dims).toEqual([2, 6]);
    expect(Array.from(feeds.input_ids!.data as BigInt64Array, Number)).toEqual([...padded(ids(6)), ...padded(ids(0))]);
    expect(Array.from(feeds.attention_mask!.data as BigInt64Array, Number)).toEqual([
      ...padded(ids(6).map(() => 1)),
      ...padded(ids(0).map(() => 1)),
    ]);
    expect(Array.from(feeds.target!.data as BigInt64Array, Number)).toEqual([expected.y[6], expected.y[0]]);
  });

  test("batches go by length; ids, labels and columns are the dataset's", async () => {
    const dataset = await openText();
    const order = await dataset.order([6, 0, 3]);
    expect(order).toEqual([0, 3, 6]);
    expect(await dataset.ids([3, 11])).toEqual(["ex-03", "ex-11"]);
    const rows = Array.from({ length: dataset.n }, (_, row) => row);
    const columns = await Promise.all(dataset.columns.map(async ({ name, read }) => [name, await read(rows)]));
    expect(Object.fromEntries(columns)).toEqual({ label: expected.y, text: expected.text });
  });

  test("an id that occurs twice, lengths that differ, and a label out of range are refused", async () => {
    const twice = await openText({ ids: { file: "rows.jsonl", column: "label" } });
    await expect(twice.checkIds()).rejects.toThrow(/expected unique ids, got "\d" in rows \d+ and \d+/);
    await expect(openText({ target: { file: "part-0.parquet", column: "label" } })).rejects.toThrow(
      /part-0\.parquet: label: expected 20 examples .* got 12/,
    );
    await expect(openText({ limit: 12, target: { file: "x.npy" } })).rejects.toThrow(
      /target: the model expects extents \[\], the dataset has \[2, 3\]/,
    );
  });
});
