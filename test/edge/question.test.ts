import { Packr } from "msgpackr";
import { beforeAll, describe, expect, test } from "vitest";
import { FILES } from "../../src/core/manifest.ts";
import { ask, askGroups, askInfluence, fileOf, post, publish, startAfresh } from "./bucket.ts";
import { bruteForce, influences, queryOf, R } from "./oracle.ts";

const msgpack = new Packr({ useRecords: false });

beforeAll(async () => {
  await startAfresh();
  await publish("digits");
});

/** A column of the training examples, as published. */
const columnOf = (name: string): unknown[] => msgpack.unpack(fileOf("digits", FILES.examples)).columns[name];

const sent = async (response: Promise<Response>) => Object(await (await response).json());
const ids = Array.from({ length: 20 }, (_, row) => `test-${row}`);

describe("a batch", () => {
  const path = "/v1/indexes/digits/influence";
  const lists = async (body: object) => {
    const { index: _index, topK: _topK, ...rest } = await sent(askInfluence("digits", body));
    return rest;
  };

  test("of stored queries is what each has alone, in the order asked, twice where asked twice", async () => {
    const queries = [...ids.toReversed(), "test-3"];
    const { answers, topK, index } = await sent(askInfluence("digits", { queries, topK: 5 }));
    expect({ topK, index: index.name }).toEqual({ topK: 5, index: "digits" });
    expect(answers).toHaveLength(21);
    for (const [at, query] of queries.entries()) {
      expect(answers[at]).toEqual(await lists({ query, topK: 5 }));
      expect(answers[at]).toMatchObject({
        exact: true,
        ...bruteForce("digits", queryOf("digits", Number(query.slice(5))), 5),
      });
    }
  });

  test("of gradients, in each format, is the same; a batch of one is a batch", async () => {
    const gradients = [4, 9, 2].map((row) => queryOf("digits", row));
    const written = gradients.map((gradient) => [...gradient]);
    const asJson = await sent(askInfluence("digits", { gradients: written }));
    for (const [at, gradient] of written.entries()) expect(asJson.answers[at]).toEqual(await lists({ gradient }));
    const post = (type: string, body: BodyInit, search = "") =>
      sent(ask(path + search, { method: "POST", headers: { "Content-Type": type }, body }));
    expect(await post("application/msgpack", new Uint8Array(msgpack.pack({ gradients: written })))).toEqual(asJson);
    const raw = Float32Array.from(written.flat());
    expect(await post("application/octet-stream", raw, "?queries=3")).toEqual(asJson);
    const one = await post("application/octet-stream", raw.slice(0, R), "?queries=1&topK=2");
    expect(one).toMatchObject({ topK: 2, answers: [bruteForce("digits", gradients[0], 2)] });
  });

  test("of 256, some of them zero", async () => {
    const gradients = Array.from({ length: 256 }, (_, at) =>
      at % 5 === 0 ? Array(R).fill(0) : [...queryOf("digits", at % 20)],
    );
    const { answers } = await sent(askInfluence("digits", { gradients, topK: 3 }));
    expect(answers).toHaveLength(256);
    for (const [at, answer] of answers.entries()) {
      const expected =
        at % 5 === 0 ? { helpful: [], harmful: [] } : bruteForce("digits", queryOf("digits", at % 20), 3);
      expect(answer).toMatchObject({ exact: true, ...expected });
    }
  });
});

describe("a filter", () => {
  const [label, flipped] = [columnOf("label"), columnOf("flipped")];

  test.for([
    { column: "label", values: [3, 8] },
    { column: "label", values: [0] },
    { column: "flipped", values: [true] },
    { column: "flipped", values: [true, false] },
  ])("%o: the top of what it lets through", async (filter) => {
    const column = columnOf(filter.column);
    const counts = (row: number) => filter.values.some((value) => value === column[row]);
    for (const row of [0, 7, 13]) {
      const answer = await sent(askInfluence("digits", { query: `test-${row}`, topK: 8, filter }));
      expect(answer).toMatchObject({ exact: true, ...bruteForce("digits", queryOf("digits", row), 8, counts) });
    }
  });

  test("by ids, which are fewer than are asked for", async () => {
    const filter = { ids: ["train-499", "train-0", "train-77", "train-0"] };
    const counts = (row: number) => [499, 0, 77].includes(row);
    const answer = await sent(askInfluence("digits", { query: "test-5", topK: 10, filter }));
    expect(answer).toMatchObject({ exact: true, ...bruteForce("digits", queryOf("digits", 5), 10, counts) });
    expect(answer.helpful.length + answer.harmful.length).toBe(3);
  });

  test("over a batch", async () => {
    const filter = { column: "label", values: [4] };
    const { answers } = await sent(askInfluence("digits", { queries: ids, topK: 4, filter }));
    for (const [row, answer] of answers.entries()) {
      expect(answer).toMatchObject(bruteForce("digits", queryOf("digits", row), 4, (at) => label[at] === 4));
    }
  });

  test("over groups", async () => {
    const filter = { column: "flipped", values: [true] };
    const { rows, groups } = await sent(askGroups("digits", { query: "test-1", column: "label", filter }));
    expect(rows).toBe(flipped.filter(Boolean).length);
    expect(groups).toMatchObject(sumsOf(1, "label", (row) => flipped[row] === true));
  });
});

/** Float64 sums of the influences on a stored query by the values of a column, the most helpful first, to nine digits. */
function sumsOf(query: number, name: string, counts = (_row: number) => true) {
  const all = influences("digits", queryOf("digits", query));
  const column = columnOf(name);
  return [...new Set(column.filter((_, row) => counts(row)))]
    .map((value) => {
      const own = all.filter((_, row) => counts(row) && column[row] === value);
      return { value, count: own.length, sum: own.reduce((sum, influence) => sum + influence, 0) };
    })
    .sort((one, other) => one.sum - other.sum)
    .map(({ value, count, sum }) => ({
      value,
      count,
      sum: expect.closeTo(sum, 9),
      mean: expect.closeTo(sum / count, 9),
      error: 0,
    }));
}

describe("groups", () => {
  test.for(["label", "flipped", "was"])("of %s are float64 sums over all rows", async (column) => {
    for (const row of [0, 11]) {
      const answer = await sent(askGroups("digits", { query: `test-${row}`, column }));
      expect(answer).toMatchObject({ column, rows: 500, query: { id: `test-${row}` } });
      expect(answer.groups).toEqual(sumsOf(row, column));
    }
  });

  test("of a gradient, in each format, are the same", async () => {
    const gradient = queryOf("digits", 6);
    const asJson = await sent(askGroups("digits", { gradient: [...gradient], column: "label" }));
    expect(asJson.groups).toEqual(sumsOf(6, "label"));
    const post = (type: string, body: BodyInit, search = "") =>
      sent(ask(`/v1/indexes/digits/groups${search}`, { method: "POST", headers: { "Content-Type": type }, body }));
    const packed = new Uint8Array(msgpack.pack({ gradient: [...gradient], column: "label" }));
    expect(await post("application/msgpack", packed)).toEqual(asJson);
    expect(await post("application/octet-stream", gradient, "?column=label")).toEqual(asJson);
  });

  test("of a zero gradient sum to nothing", async () => {
    const { groups } = await sent(askGroups("digits", { gradient: Array(R).fill(0), column: "flipped" }));
    expect(groups).toMatchObject([
      { sum: 0, error: 0 },
      { sum: 0, error: 0 },
    ]);
  });

  test("say where the time went", async () => {
    const response = await post("/v1/indexes/digits/groups?timing=true", { query: "test-1", column: "label" });
    const phases = (response.headers.get("Server-Timing") ?? "").split(", ").map((phase) => phase.split(";")[0]);
    expect(phases).toEqual(["body", "load", "query", "scan", "total"]);
    await response.text();
  });
});
