import { beforeAll, expect, test } from "vitest";
import { MAX_BODY } from "../../src/body.ts";
import { ask, publish, startAfresh } from "./bucket.ts";
import { queryOf } from "./oracle.ts";

beforeAll(async () => {
  await startAfresh();
  await publish("digits");
  await publish("words");
});

const influence = "/v1/indexes/digits/influence";
const groups = "/v1/indexes/digits/groups";
const posted = (type: string | undefined, body: BodyInit): RequestInit => ({
  method: "POST",
  headers: type === undefined ? {} : { "Content-Type": type },
  body,
});
const asJson = (value: unknown) => posted("application/json", JSON.stringify(value));
const msgpack = (...bytes: number[]) => posted("application/msgpack", new Uint8Array(bytes));
const filtered = (filter: unknown) => asJson({ query: "test-1", filter });
const zeros = (count: number) => Array(count).fill(0);
const gradient = (change: Record<number, unknown>) => ({ gradient: Object.assign(Array(32).fill(0.5), change) });

/** Path, request, status, kind, and what the sentence must say. */
const cases: [string, RequestInit, number, string, RegExp][] = [
  [influence, asJson({ gradient: [1, 2, 3] }), 400, "invalid-gradient", /gradient: expected 32 numbers.*got 3/],
  [influence, asJson({ gradient: [] }), 400, "invalid-gradient", /expected 32 numbers.*got 0/],
  [
    influence,
    asJson(gradient({ 7: null })),
    400,
    "invalid-gradient",
    /gradient\[7\]: expected a finite number, got null/,
  ],
  [influence, asJson(gradient({ 7: "1" })), 400, "invalid-gradient", /gradient\[7\]: .*got "1"/],
  [influence, asJson(gradient({ 31: 1e300 })), 400, "invalid-gradient", /gradient\[31\]: .*float32, got 1e\+300/],
  [influence, asJson({ gradient: "x" }), 400, "invalid-gradient", /gradient: expected an array of numbers, got "x"/],
  [influence, posted("application/json", '{"gradient": [NaN]}'), 400, "invalid-body", /expected JSON.*no NaN/],
  [influence, posted("application/octet-stream", nanGradient()), 400, "invalid-gradient", /gradient\[5\]: .*got NaN/],
  [influence, posted("application/octet-stream", new Uint8Array(127)), 400, "invalid-gradient", /float32.*127 bytes/],
  [influence, posted("application/octet-stream", new Uint8Array(124)), 400, "invalid-gradient", /32 numbers.*got 31/],
  ...[0, -1, 1.5, 1e9, "3", null].map((topK): [string, RequestInit, number, string, RegExp] => [
    influence,
    asJson({ query: "test-1", topK }),
    400,
    "invalid-body",
    new RegExp(`^topK: expected an integer from 1 to 1000, got ${JSON.stringify(topK)}\\.$`),
  ]),
  ...["0", "-1", "1.5", "1000000000", "x", ""].map((topK): [string, RequestInit, number, string, RegExp] => [
    `${influence}?topK=${topK}`,
    posted("application/octet-stream", new Uint8Array(128)),
    400,
    "invalid-parameter",
    /^topK: expected an integer from 1 to 1000, got /,
  ]),
  [influence, asJson({}), 400, "invalid-body", /expected either gradient, query, gradients or queries, got {}/],
  [influence, asJson({ query: "test-1", ...gradient({}) }), 400, "invalid-body", /expected either gradient, query/],
  [influence, asJson({ query: 1 }), 400, "invalid-body", /query: expected the id of a stored query as a string, got 1/],
  [
    influence,
    asJson({ query: "test-1", k: 3 }),
    400,
    "invalid-body",
    /expected an object of gradient, query, gradients or queries, with topK and filter/,
  ],
  [influence, asJson([1]), 400, "invalid-body", /expected an object/],
  [influence, asJson(null), 400, "invalid-body", /expected an object.*got null/],
  [influence, asJson({ query: "test-99" }), 404, "unknown-query", /stored query of index digits, got "test-99"/],
  ["/v1/indexes/none/influence", asJson({ query: "x" }), 404, "unknown-index", /got "none"/],
  [influence, posted("application/json", "query=1"), 400, "invalid-body", /body: expected JSON/],
  [influence, posted("application/json", ""), 400, "invalid-body", /body: expected JSON/],
  [influence, posted("application/json", new Uint8Array([0x22, 0xff, 0x22])), 400, "invalid-body", /expected JSON/],
  [influence, posted("text/plain", "{}"), 415, "unsupported-media-type", /application\/json.*got "text\/plain"/],
  [influence, posted(undefined, new Uint8Array(4)), 415, "unsupported-media-type", /got none/],
  [
    influence,
    posted("application/json", " ".repeat(MAX_BODY + 1)),
    413,
    "body-too-large",
    /4000000 bytes, got 4000001/,
  ],
  [influence, announcing("4000001"), 413, "body-too-large", /4000000 bytes, got 4000001/],
  [influence, announcing("x"), 413, "body-too-large", /got x/],
  [influence, posted("application/json", endless()), 413, "body-too-large", /got more/],
  [influence, msgpack(), 400, "invalid-body", /expected MessagePack/],
  [influence, msgpack(0x81, 0xa1), 400, "invalid-body", /expected MessagePack/],
  [influence, msgpack(0xdd, 1, 0xf0, 0, 0), 400, "invalid-body", /32505856 values in 0 bytes/],
  [influence, msgpack(...Array(5000).fill(0x91), 0xc0), 400, "invalid-body", /nesting deeper/],
  [influence, msgpack(0xd4, 0x72, 0x40), 400, "invalid-body", /a value of type 0xd4/],
  [influence, msgpack(0x80, 0x80), 400, "invalid-body", /1 bytes after the value/],
  [influence, msgpack(0x01), 400, "invalid-body", /expected an object.*got 1/],
  [
    influence,
    asJson({ queries: ["test-1"], ...gradient({}) }),
    400,
    "invalid-body",
    /expected either gradient, query, gradients or queries/,
  ],
  [influence, asJson({ queries: [] }), 400, "invalid-body", /queries: expected an array of 1 to 256 ids.*got \[\]/],
  [
    influence,
    asJson({ queries: Array(257).fill("test-1") }),
    400,
    "invalid-body",
    /queries: expected an array of 1 to 256/,
  ],
  [influence, asJson({ queries: ["test-1", 2] }), 400, "invalid-body", /queries\[1\]: expected the id.*got 2/],
  [influence, asJson({ queries: ["test-1", "test-99"] }), 404, "unknown-query", /got "test-99"/],
  [influence, asJson({ gradients: [] }), 400, "invalid-gradient", /gradients: expected an array of 1 to 256 gradients/],
  [
    influence,
    asJson({ gradients: Array(257).fill([]) }),
    400,
    "invalid-gradient",
    /gradients: expected an array of 1 to 256/,
  ],
  [
    influence,
    asJson({ gradients: [zeros(32), zeros(31)] }),
    400,
    "invalid-gradient",
    /gradients\[1\]: expected 32 numbers/,
  ],
  [
    influence,
    asJson({ gradients: [zeros(32), 5] }),
    400,
    "invalid-gradient",
    /gradients\[1\]: expected an array.*got 5/,
  ],
  [
    influence,
    asJson({ gradients: [[...zeros(31), 1e39]] }),
    400,
    "invalid-gradient",
    /gradients\[0\]\[31\]: .*float32, got 1e\+39/,
  ],
  [
    influence,
    asJson({ queries: Array(100).fill("test-1"), topK: 101 }),
    400,
    "invalid-body",
    /topK: expected at most 100 for 100 queries, got 101/,
  ],
  [
    `${influence}?queries=2`,
    posted("application/octet-stream", new Uint8Array(128)),
    400,
    "invalid-gradient",
    /expected 2 times 32 numbers.*got 32/,
  ],
  [
    `${influence}?queries=257`,
    posted("application/octet-stream", new Uint8Array(128)),
    400,
    "invalid-parameter",
    /queries: expected an integer from 1 to 256/,
  ],
  [influence, filtered(7), 400, "invalid-body", /filter: expected an object of column and values, or of ids, got 7/],
  [influence, filtered({}), 400, "invalid-body", /filter: expected an object of column and values, or of ids/],
  [influence, filtered({ column: "label" }), 400, "invalid-body", /filter: expected an object of column and values/],
  [influence, filtered({ values: [1] }), 400, "invalid-body", /filter: expected an object of column and values/],
  [influence, filtered({ column: "label", values: [1], ids: ["train-1"] }), 400, "invalid-body", /filter: expected/],
  [influence, filtered({ column: "label", value: 1 }), 400, "invalid-body", /filter: expected an object of column/],
  [
    influence,
    filtered({ column: 1, values: [1] }),
    400,
    "invalid-body",
    /filter\.column: expected the name of a column/,
  ],
  [
    influence,
    filtered({ column: "label", values: [[]] }),
    400,
    "invalid-body",
    /filter\.values\[0\]: expected a number/,
  ],
  [
    influence,
    filtered({ column: "label", values: zeros(1001) }),
    400,
    "invalid-body",
    /values: expected.*1 to 1000 values/,
  ],
  [
    influence,
    filtered({ ids: Array(10_001).fill("train-1") }),
    400,
    "invalid-body",
    /ids: expected an array of 1 to 10000/,
  ],
  [influence, filtered({ ids: [] }), 400, "invalid-body", /filter\.ids: expected an array of 1 to 10000 ids/],
  [influence, filtered({ column: "lable", values: [1] }), 404, "unknown-column", /label, flipped, was.*got "lable"/],
  [influence, filtered({ column: "constructor", values: [1] }), 404, "unknown-column", /got "constructor"/],
  [influence, filtered({ column: "label", values: [1, "3"] }), 404, "unknown-value", /filter\.values\[1\]: .*got "3"/],
  [influence, filtered({ ids: ["train-1", "test-1"] }), 404, "unknown-example", /filter\.ids\[1\]: .*got "test-1"/],
  [groups, asJson({ query: "test-1" }), 400, "invalid-body", /column: expected the name of a column.*got nothing/],
  [groups, asJson({ column: "label" }), 400, "invalid-body", /expected either gradient or query/],
  [groups, asJson({ query: "test-1", column: "text" }), 404, "unknown-column", /label, flipped, was.*got "text"/],
  [
    groups,
    asJson({ query: "test-1", column: "label", topK: 3 }),
    400,
    "invalid-body",
    /expected an object of gradient/,
  ],
  [groups, asJson({ gradient: [1], column: "label" }), 400, "invalid-gradient", /gradient: expected 32 numbers.*got 1/],
  [groups, asJson({ query: "test-99", column: "label" }), 404, "unknown-query", /got "test-99"/],
  [
    groups,
    posted("application/octet-stream", new Uint8Array(128)),
    400,
    "invalid-parameter",
    /column: expected a name in the query string, got none/,
  ],
  [influence, {}, 405, "method-not-allowed", /expected POST, got GET/],
  ["/v1/indexes", { method: "DELETE" }, 405, "method-not-allowed", /expected GET, HEAD, got DELETE/],
  ["/v2", {}, 404, "unknown-route", /GET \/v2/],
  ["/v1/indexes/none", {}, 404, "unknown-index", /got "none"/],
  ["/v1/indexes/none/mask", {}, 404, "unknown-index", /got "none"/],
  ["/v1/indexes/none/queries", {}, 404, "unknown-index", /got "none"/],
  ["/v1/indexes/UPPER", {}, 400, "invalid-parameter", /index: expected at most 63 of a-z.*got "UPPER"/],
  ["/v1/indexes/..%2f..", {}, 400, "invalid-parameter", /index: expected/],
  ["/v1/indexes/digits/examples/train-500", {}, 404, "unknown-example", /got "train-500"/],
  ["/v1/indexes/digits/examples/train-500/image", {}, 404, "unknown-example", /got "train-500"/],
  ["/v1/indexes/digits/queries/train-1", {}, 404, "unknown-query", /got "train-1"/],
  ["/v1/indexes/words/queries/test%2Fham%200/image", {}, 404, "missing-file", /expected index words to carry images/],
  [
    "/v1/indexes/digits/queries?limit=0",
    {},
    400,
    "invalid-parameter",
    /limit: expected an integer from 1 to 200, got "0"/,
  ],
  ["/v1/indexes/digits/queries?limit=201", {}, 400, "invalid-parameter", /limit/],
  ["/v1/indexes/digits/queries?offset=-1", {}, 400, "invalid-parameter", /offset: .*got "-1"/],
  ["/v1/indexes/digits/queries?misclassified=1", {}, 400, "invalid-parameter", /misclassified: expected true or false/],
  ["/v1/indexes/digits/queries?lable=1", {}, 400, "invalid-parameter", /lable: expected one of .*label/],
  ["/v1/indexes/digits/queries?constructor=1", {}, 400, "invalid-parameter", /constructor/],
  ["/v1/indexes/digits/mask?version=x", {}, 400, "invalid-parameter", /version: expected 16 hexadecimal digits/],
  [
    "/v1/indexes/digits/queries/test-1/image?version=0123456789abcdef",
    {},
    404,
    "unknown-version",
    /got 0123456789abcdef/,
  ],
];

test.for(cases)("%s %o → %i %s", async ([path, init, status, kind, detail]) => {
  const response = await ask(path, init);
  expect(response.headers.get("Content-Type")).toBe("application/problem+json");
  const problem = await response.json<Record<string, unknown>>();
  expect(problem).toEqual({
    type: `urn:influence-edge:problem:${kind}`,
    title: expect.any(String),
    status,
    detail: expect.stringMatching(detail),
  });
  expect(response.status).toBe(status);
  expect(problem.detail).toMatch(/\.$/);
});

function nanGradient(): Uint8Array {
  const values = queryOf("digits", 0);
  values[5] = Number.NaN;
  return new Uint8Array(values.buffer);
}

/** A body that says of itself that it has so many bytes. */
function announcing(length: string): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json", "Content-Length": length }, body: "{}" };
}

/** A body without a length, longer than any limit. */
function endless(): ReadableStream {
  return new ReadableStream({
    pull(controller) {
      controller.enqueue(new Uint8Array(1 << 20).fill(0x20));
    },
  });
}
