import { setTimeout } from "node:timers/promises";
import { crc32 as zlibCrc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { crc32 } from "../../src/core/crc32.ts";
import { RowReader } from "../../src/core/row-reader.ts";
import type { IndexSource } from "../../src/core/source.ts";

const R = 100;
const n = 5000;
const rows = Float32Array.from({ length: n * R }, (_, at) => Math.sin(at));
const bytes = new Uint8Array(rows.buffer);
const checksums = Uint32Array.from({ length: n }, (_, row) =>
  zlibCrc32(bytes.subarray(4 * R * row, 4 * R * (row + 1))),
);

/** A source that remembers what it was asked, and how much of it at once. */
function watchedSource() {
  const asked: { offset: number; length: number }[] = [];
  let open = 0;
  let most = 0;
  const source: IndexSource = {
    stream: () => Promise.reject(new Error("not asked for")),
    async range(_, offset, length) {
      asked.push({ offset, length });
      most = Math.max(most, ++open);
      await setTimeout(1);
      open--;
      return bytes.slice(offset, offset + length);
    },
  };
  return { source, asked, most: () => most };
}

const readAll = async (reader: RowReader, wanted: readonly number[]) => {
  const found = new Map<number, number[]>();
  const fetched = await reader.read(wanted, (row, values) => found.set(row, [...values]));
  return { found, fetched };
};

test("every row asked for arrives, as it is", async () => {
  const { source } = watchedSource();
  const reader = new RowReader(source, "rows.f32", R, checksums, 10);
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.integer({ min: 0, max: n - 1 }), { maxLength: 60 }), async (wanted) => {
      const { found } = await readAll(reader, wanted);
      expect(new Set(found.keys())).toEqual(new Set(wanted));
      for (const [row, values] of found) expect(values).toEqual([...rows.subarray(row * R, (row + 1) * R)]);
    }),
    { numRuns: 50 },
  );
});

test("neighbouring rows come in one read, far ones apart, at most six at once", async () => {
  const { source, asked, most } = watchedSource();
  const reader = new RowReader(source, "rows.f32", R, checksums, 0);
  await readAll(reader, [12, 10, 11, 14]);
  expect(asked).toEqual([{ offset: 10 * 4 * R, length: 5 * 4 * R }]);
  await readAll(
    reader,
    Array.from({ length: 20 }, (_, at) => at * 240),
  );
  expect(asked).toHaveLength(21);
  expect(most()).toBe(6);
});

test("the rows used last are kept, as many as were allowed", async () => {
  const { source } = watchedSource();
  const reader = new RowReader(source, "rows.f32", R, checksums, 3);
  await readAll(reader, [1, 500, 900]);
  await readAll(reader, [1]);
  await readAll(reader, [1400]);
  expect((await readAll(reader, [1, 900, 1400])).fetched).toBe(0);
  expect((await readAll(reader, [500])).fetched).toBe(1);
});

test("a row that differs from its checksum is refused by name", async () => {
  const wrong = checksums.with(7, 0);
  const reader = new RowReader(watchedSource().source, "rows.f32", R, wrong, 3);
  await expect(readAll(reader, [6, 7])).rejects.toThrow(
    /^rows\.f32: expected crc32 00000000 of row 7, got [0-9a-f]{8}/,
  );
});

test("checksums are zlib's", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (some) => crc32(some) === zlibCrc32(some)));
});
