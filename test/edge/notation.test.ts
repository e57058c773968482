import fc from "fast-check";
import { Packr } from "msgpackr";
import { expect, test } from "vitest";
import { beginBytes, endBytes, forgotten, keepBytes, position, writeKept } from "../../src/answer-bytes.ts";
import { json, messagePack, type Notation } from "../../src/notation.ts";

const msgpack = new Packr({ useRecords: false });
const text = (bytes: Uint8Array) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

/** Short names and long lists; text of any script, in entries. */
const name = fc.stringMatching(/^[a-zA-Z]{1,31}$/);
const columns = fc.dictionary(
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }).filter((key) => key !== "__proto__"),
  fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
  ),
  { minKeys: 1, maxKeys: 40 },
);
const answer = fc.record({
  list: fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { maxLength: 40 }),
  count: fc.nat({ max: 2 ** 32 - 1 }),
  flag: fc.boolean(),
  columns,
  named: fc.uniqueArray(name, { maxLength: 30 }),
});
type Answer = typeof answer extends fc.Arbitrary<infer Value> ? Value : never;

const asObject = ({ list, count, flag, columns, named }: Answer) => ({
  list,
  count,
  flag,
  kept: columns,
  named: Object.fromEntries(named.map((key, at) => [key, at])),
});

function write(to: Notation, { list, count, flag, columns, named }: Answer): void {
  to.beginMap(5);
  to.name("list");
  to.beginList(list.length);
  for (const [at, value] of list.entries()) {
    if (at > 0) to.next();
    to.number(value);
  }
  to.endList();
  to.next();
  to.name("count");
  to.count(count);
  to.next();
  to.name("flag");
  to.flag(flag);
  to.next();
  to.name("kept");
  to.beginMap(Object.keys(columns).length);
  to.entries(columns);
  to.endMap();
  to.next();
  to.name("named");
  to.beginMap(named.length);
  for (const [at, key] of named.entries()) {
    if (at > 0) to.next();
    to.name(key);
    to.count(at);
  }
  to.endMap();
  to.endMap();
}

test("what is written piece by piece is what JSON.stringify writes, and what msgpackr reads", () => {
  fc.assert(
    fc.property(answer, (given) => {
      const expected = JSON.stringify(asObject(given));
      beginBytes();
      write(json, given);
      expect(text(endBytes())).toBe(expected);
      beginBytes();
      write(messagePack, given);
      expect(JSON.stringify(msgpack.unpack(endBytes()))).toBe(expected);
    }),
  );
});

test("an answer of any length is whole, and a short one after it too", () => {
  const item = "\u{1f600}é".repeat(50);
  for (const items of [1000, 10_000]) {
    beginBytes();
    json.beginList(items);
    for (let at = 0; at < items; at++) {
      if (at > 0) json.next();
      json.beginMap(1);
      json.entries({ item });
      json.endMap();
    }
    json.endList();
    expect(text(endBytes())).toBe(JSON.stringify(Array(items).fill({ item })));
    beginBytes();
    json.count(items);
    expect(text(endBytes())).toBe(String(items));
  }
});

test("what is kept is written again as it was, whatever was written meanwhile, until all is forgotten", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string(), fc.string(), fc.string(), fc.nat(200_000)), { maxLength: 30 }),
      (rows) => {
        let since = forgotten();
        let known: { first: string; last: string; bytes: NonNullable<ReturnType<typeof keepBytes>> }[] = [];
        beginBytes();
        let expected = "";
        for (const [first, gap, last, more] of rows) {
          const long = last + "x".repeat(more);
          const start = position();
          json.entries({ first });
          const before = position();
          json.entries({ gap });
          const after = position();
          json.entries({ long });
          const written = { first: inside({ first }), last: inside({ long }) };
          expected += written.first + inside({ gap }) + written.last;
          const bytes = keepBytes(start, before, after);
          if (forgotten() !== since) known = [];
          since = forgotten();
          if (bytes !== undefined) known.push({ ...written, bytes });
          for (const { first, last, bytes } of known.slice(-3)) {
            writeKept(bytes.from, bytes.middle);
            json.next();
            writeKept(bytes.middle, bytes.to);
            expected += `${first},${last}`;
          }
        }
        expect(text(endBytes())).toBe(expected);
      },
    ),
  );
});

test("what is too long is not kept, and makes nothing be forgotten", () => {
  beginBytes();
  const start = position();
  json.entries({ long: "x".repeat(2 ** 20) });
  const since = forgotten();
  expect(keepBytes(start, start, start)).toBeUndefined();
  expect(forgotten()).toBe(since);
});

/** The entries as JSON. */
const inside = (value: object) => JSON.stringify(value).slice(1, -1);
