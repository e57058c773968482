import { setTimeout } from "node:timers/promises";
import { crc32 as zlibCrc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { crc32 } from "../../src/core/crc32.ts";
import { MOST_READS, RowReader } from "../../src/core/row-reader.ts";
import type { IndexSource, Part } from "../../src/core/source.ts";

const R = 100;
const n = 20_000;
const rows = Float32Array.from({ length: n * R }, (_, at) => Math.sin(at));
const bytes = new Uint8Array(rows.buffer);
const checksums = Uint32Array.from({ length: n }, (_, row) =>
  zlibCrc32(bytes.subarray(4 * R * row, 4 * R * (row + 1))),
);

/** A source that remembers what it was asked, and how much of it at once; its streams come in uneven chunks. */
function watchedSource(end = bytes.length) {
  const asked: { file: string; offset: number; length: number }[] = [];
  let open = 0;
  let most = 0;
  const source: IndexSource = {
    range: () => Promise.reject(new Error("not asked for")),
    async stream(file, part: Part = { offset: 0, length: bytes.length }) {
      asked.push({ file, ...part });
      most = Math.max(most, ++open);
      return (async function* () {
        await setTimeout(1);
        const whole = bytes.subarray(part.offset, Math.min(end, part.offset + part.length));
        for (let at = 0; at < whole.length; at += 7001) yield whole.subarray(at, at + 7001);
        open--;
      })();
    },
  };
  return { source, asked, most: () => most };
}

const readAll = async (reader: RowReader, wanted: readonly number[]) => {
  const found = new Map<number, number[]>();
  let fetched = 0;
  await reader.read(wanted, (row, values, read) => {
    found.set(row, [...values]);
    if (read) fetched++;
  });
  return { found, fetched };
};

test("every row asked for arrives, as it is", async () => {
  const { source } = watchedSource();
  const reader = new RowReader(source, R, checksums, 10, "rows.f32");
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
  const reader = new RowReader(source, R, checksums, 0, "rows.f32");
  await readAll(reader, [12, 10, 11, 14]);
  expect(asked).toEqual([{ file: "rows.f32", offset: 10 * 4 * R, length: 5 * 4 * R }]);
  await readAll(
    reader,
    Array.from({ length: 10 }, (_, at) => at * 500),
  );
  expect(asked).toHaveLength(11);
  expect(most()).toBe(6);
});

test("however many rows and however they lie, reads are few, none overlaps another, and the widest gaps are left out", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: 0, max: n - 1 }), { minLength: 1, maxLength: 300 }),
      async (wanted) => {
        const { source, asked } = watchedSource();
        const { found } = await readAll(new RowReader(source, R, checksums, 0, "rows.f32"), wanted);
        expect(found.size).toBe(wanted.length);
        expect(asked.length).toBeLessThanOrEqual(MOST_READS);
        const sorted = wanted.toSorted((a, b) => a - b);
        const gaps = sorted.slice(1).map((row, at) => row - sorted[at] - 1);
        const left = gaps
          .filter((gap) => 4 * R * gap > 128 * 1024)
          .toSorted((a, b) => b - a)
          .slice(0, MOST_READS - 1);
        const span = sorted[sorted.length - 1] - sorted[0] + 1;
        const least = 4 * R * (span - left.reduce((sum, gap) => sum + gap, 0));
        expect(asked.reduce((sum, { length }) => sum + length, 0)).toBe(least);
      },
    ),
    { numRuns: 30 },
  );
});

test("rows of two files are read from each", async () => {
  const { source, asked } = watchedSource();
  const locate = (place: number) => ({ file: place < 10 ? "long.f32" : "rows.f32", at: place, row: place });
  const { found } = await readAll(new RowReader(source, R, checksums, 0, locate), [12, 9, 3]);
  expect(found.get(9)).toEqual([...rows.subarray(9 * R, 10 * R)]);
  expect(asked.map(({ file }) => file)).toEqual(["long.f32", "rows.f32"]);
});

test("a file that ends before the rows is refused by name", async () => {
  const reader = new RowReader(watchedSource(4 * R * 100 + 7).source, R, checksums, 0, "rows.f32");
  await expect(readAll(reader, [98, 100])).rejects.toThrow("rows.f32: expected 1200 bytes at 39200, got 807");
});

test("the rows used last are kept, as many as were allowed", async () => {
  const { source } = watchedSource();
  const reader = new RowReader(source, R, checksums, 3, "rows.f32");
  await readAll(reader, [1, 500, 900]);
  await readAll(reader, [1]);
  await readAll(reader, [1400]);
  expect((await readAll(reader, [1, 900, 1400])).fetched).toBe(0);
  expect((await readAll(reader, [500])).fetched).toBe(1);
});

test("a row that differs from its checksum is refused by name", async () => {
  const wrong = checksums.with(7, 0);
  const reader = new RowReader(watchedSource().source, R, wrong, 3, "rows.f32");
  await expect(readAll(reader, [6, 7])).rejects.toThrow(
    /^rows\.f32: expected crc32 00000000 of row 7, got [0-9a-f]{8}/,
  );
});

test("checksums are zlib's", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (some) => crc32(some) === zlibCrc32(some)));
});
