import { expect, test } from "vitest";
import { bitmapOf, groupsOf } from "../../src/columns.ts";
import { FILES, type Metadata, manifestSchema } from "../../src/core/manifest.ts";
import { MAX_GROUPS } from "../../src/schema.ts";
import { fileOf } from "./bucket.ts";

const manifest = manifestSchema.parse(JSON.parse(new TextDecoder().decode(fileOf("digits", FILES.manifest))));
const indexOf = (columns: Metadata["columns"]) => {
  const { length } = Object.values(columns)[0];
  return { manifest, examples: { ids: Array.from({ length }, (_, row) => `train-${row}`), columns } };
};

test("values of different types are different, and an unknown one is a value too", () => {
  const index = indexOf({ source: [1, "1", null, true, "true", 1, null] });
  const { values, groups } = groupsOf(index, "source");
  expect(values).toEqual([1, "1", null, true, "true"]);
  expect([...groups]).toEqual([0, 1, 2, 3, 4, 0, 2]);
  expect([...bitmapOf(index, { column: "source", values: [null, "1"] })]).toEqual([0b1000110]);
});

test("the rows of a filter are those of the metadata, in whatever order they are listed", () => {
  const index = indexOf({ label: Array.from({ length: 17 }, (_, row) => row % 3) });
  expect([...bitmapOf(index, { ids: ["train-16", "train-0", "train-9"] })]).toEqual([0b1, 0b10, 0b1]);
  expect([...bitmapOf(index, { column: "label", values: [2] })]).toEqual([0b00100100, 0b01001001, 0]);
});

test("a column of too many values is refused", () => {
  const index = indexOf({ text: Array.from({ length: MAX_GROUPS + 1 }, (_, row) => `text ${row}`) });
  expect(() => groupsOf(index, "text")).toThrow(
    'column: expected one of at most 10000 different values, got 10001 in "text"; choose a coarser one.',
  );
});
