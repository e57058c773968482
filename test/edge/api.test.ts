import { Packr } from "msgpackr";
import { beforeAll, describe, expect, test } from "vitest";
import { imageRange, offsetsRange } from "../../src/core/image-pack.ts";
import { FILES } from "../../src/core/manifest.ts";
import { ask, askInfluence, fileOf, post, publish, startAfresh, versionOf } from "./bucket.ts";
import { bruteForce, queryOf } from "./oracle.ts";

const msgpack = new Packr({ useRecords: false });

beforeAll(async () => {
  await startAfresh();
  await publish("digits");
  await publish("words");
});

async function json(path: string, init?: RequestInit) {
  const response = await ask(path, init);
  expect(response.headers.get("Content-Type")).toBe("application/json");
  expect(response.status).toBe(200);
  return await response.json<Record<string, unknown>>();
}

describe("what is published", () => {
  test("health and readiness", async () => {
    expect(await json("/healthz")).toEqual({ status: "ok" });
    expect(await json("/readyz")).toMatchObject({ status: "ready", index: "digits", version: versionOf("digits") });
  });

  test("the list, and one index whole", async () => {
    expect(await json("/v1/indexes")).toMatchObject({
      indexes: [
        { name: "digits", version: versionOf("digits"), n: 500, dimension: 32, queries: 20 },
        { name: "words", version: versionOf("words") },
      ],
      unavailable: [],
    });
    const index = await json("/v1/indexes/digits");
    expect(index).toMatchObject({ name: "digits", maxTopK: 1000, compressor: { kind: "dropout" } });
    // What a client may filter and group by.
    expect(index.columns).toEqual({
      examples: ["label", "flipped", "was"],
      queries: ["label", "prediction", "loss"],
    });
    expect(index.layers).toMatchObject([
      { name: "conv", offset: 0, r: 12, d: 100 },
      { name: "dense", offset: 12, r: 20, d: 1000 },
    ]);
  });

  test("the mask as JSON and as the file", async () => {
    const mask = await json("/v1/indexes/digits/mask");
    const binary = await ask("/v1/indexes/digits/mask", { headers: { Accept: "application/octet-stream" } });
    const bytes = await binary.bytes();
    expect(bytes).toEqual(fileOf("digits", FILES.mask));
    const kept = [...new Uint32Array(bytes.slice(64).buffer)];
    expect(mask).toMatchObject({ dimension: 32, layers: [{ kept: kept.slice(0, 12) }, { kept: kept.slice(12) }] });
  });

  test("the gradient graph, cached by version", async () => {
    const path = "/v1/indexes/digits/gradient.onnx";
    const first = await ask(path);
    expect(await first.bytes()).toEqual(fileOf("digits", FILES.gradientGraph));
    expect(first.headers.get("Content-Length")).toBe("4000");
    expect(first.headers.get("Cache-Control")).toBe("no-cache");
    const etag = first.headers.get("ETag") ?? "";
    expect(etag).toContain(versionOf("digits"));
    const again = await ask(path, { headers: { "If-None-Match": etag } });
    expect(again.status).toBe(304);
    const fixed = await ask(`${path}?version=${versionOf("digits")}`);
    expect(fixed.headers.get("Cache-Control")).toContain("immutable");
    await fixed.bytes();
    expect((await ask(`${path}?version=0123456789abcdef`)).status).toBe(404);
    const head = await ask(path, { method: "HEAD" });
    expect(head.status).toBe(200);
    expect(await head.text()).toBe("");
  });

  test("a description that names every route", async () => {
    const { paths } = await json("/openapi.json");
    expect(Object.keys(paths ?? {}).sort()).toEqual([
      "/healthz",
      "/readyz",
      "/v1/indexes",
      "/v1/indexes/{index}",
      "/v1/indexes/{index}/examples/{id}",
      "/v1/indexes/{index}/examples/{id}/image",
      "/v1/indexes/{index}/gradient.onnx",
      "/v1/indexes/{index}/groups",
      "/v1/indexes/{index}/influence",
      "/v1/indexes/{index}/mask",
      "/v1/indexes/{index}/queries",
      "/v1/indexes/{index}/queries/{id}",
      "/v1/indexes/{index}/queries/{id}/image",
    ]);
    const types = ["application/json", "application/msgpack", "application/octet-stream"];
    for (const path of ["influence", "groups"]) {
      const operation = Object(paths)[`/v1/indexes/{index}/${path}`].post;
      expect(Object.keys(operation.requestBody.content)).toEqual(types);
      expect(Object.keys(operation.responses)).toEqual(["200", "400", "404", "413", "415", "503", "507"]);
    }
  });
});

describe("stored queries", () => {
  test("misclassified first, by falling loss, in pages", async () => {
    const all = await json("/v1/indexes/digits/queries");
    const ids = Array.from(Object(all.queries), (query) => Object(query).id);
    expect(all).toMatchObject({ total: 20, offset: 0, limit: 50 });
    expect(ids.slice(0, 5)).toEqual(["test-17", "test-13", "test-9", "test-5", "test-1"]);
    expect(ids[5]).toBe("test-19");
    const page = await json("/v1/indexes/digits/queries?limit=2&offset=4");
    expect(page).toMatchObject({ total: 20, queries: [{ id: "test-1" }, { id: "test-19" }] });
  });

  test("filtered by what they are", async () => {
    expect(await json("/v1/indexes/digits/queries?misclassified=true")).toMatchObject({ total: 5 });
    expect(await json("/v1/indexes/digits/queries?misclassified=false&label=1")).toMatchObject({
      total: 1,
      queries: [{ id: "test-11", label: 1 }],
    });
    expect(await json("/v1/indexes/digits/queries?prediction=99")).toMatchObject({ total: 0, queries: [] });
  });

  test("one of them, and one training example", async () => {
    const image = `/v1/indexes/digits/queries/test-1/image?version=${versionOf("digits")}`;
    expect(await json("/v1/indexes/digits/queries/test-1")).toMatchObject({
      id: "test-1",
      label: 1,
      prediction: 6,
      image,
    });
    expect(await json("/v1/indexes/digits/examples/train-9")).toMatchObject({ label: 0, was: 9, flipped: true });
    const spaced = await json(`/v1/indexes/words/examples/${encodeURIComponent("train/spam 3")}`);
    expect(spaced).toMatchObject({ id: "train/spam 3", label: 1 });
    expect(spaced.image).toBeUndefined();
  });

  test("images, for ever under their version", async () => {
    const { image } = await json("/v1/indexes/digits/examples/train-7");
    const response = await ask(String(image));
    expect(response.headers.get("Content-Type")).toBe("image/png");
    expect(response.headers.get("Cache-Control")).toContain("immutable");
    const bytes = await response.bytes();
    const file = fileOf("digits", FILES.exampleImages);
    const head = offsetsRange(7);
    const { offset, length } = imageRange(file.subarray(head.offset, head.offset + head.length));
    expect(bytes).toEqual(file.slice(offset, offset + length));
    const etag = response.headers.get("ETag") ?? "";
    expect((await ask(String(image), { headers: { "If-None-Match": etag } })).status).toBe(304);
  });
});

describe("influence", () => {
  const path = "/v1/indexes/digits/influence";

  test("of every stored query is what brute force finds", async () => {
    for (let row = 0; row < 20; row++) {
      const answer = await (await askInfluence("digits", { query: `test-${row}`, topK: 7 })).json();
      const expected = bruteForce("digits", queryOf("digits", row), 7);
      expect(answer).toMatchObject({ ...expected, exact: true, topK: 7, query: { id: `test-${row}` } });
    }
  });

  test("of a gradient, in each format, is the same", async () => {
    const gradient = queryOf("digits", 3);
    const expected = bruteForce("digits", gradient, 10);
    const post = (type: string, body: BodyInit, accept = "*/*", search = "") =>
      ask(path + search, { method: "POST", headers: { "Content-Type": type, Accept: accept }, body });
    const asJson = await post("application/json; charset=utf-8", JSON.stringify({ gradient: [...gradient] }));
    const answer = await asJson.json<Record<string, unknown>>();
    expect(answer).toMatchObject({ ...expected, exact: true });
    expect(answer.query).toBeUndefined();
    const packed = new Uint8Array(msgpack.pack({ gradient: [...gradient], topK: 10 }));
    const asMsgpack = await post("application/msgpack", packed, "application/msgpack");
    expect(asMsgpack.headers.get("Content-Type")).toBe("application/msgpack");
    expect(msgpack.unpack(await asMsgpack.bytes())).toEqual(answer);
    const raw = new Uint8Array(gradient.buffer, gradient.byteOffset, gradient.byteLength);
    expect(await (await post("application/octet-stream", raw)).json()).toEqual(answer);
    const three = await post("application/octet-stream", raw, "*/*", "?topK=3");
    expect(await three.json()).toMatchObject({ topK: 3, ...bruteForce("digits", gradient, 3) });
  });

  test("JSON is as JSON.stringify writes it, and MessagePack says the same, alone and in a batch, the second time too", async () => {
    for (const index of ["digits", "words"] as const) {
      const gradients = Array.from({ length: 20 }, (_, row) => [...queryOf(index, row % 5)]);
      for (const body of [
        { gradient: gradients[0] },
        { gradients: gradients.slice(0, 2), topK: 3 },
        { gradients, topK: 1 },
        { gradient: gradients[1], topK: 40 },
      ]) {
        for (let time = 0; time < 2; time++) {
          const text = await (await askInfluence(index, body)).text();
          const answer = JSON.parse(text);
          expect(text).toBe(JSON.stringify(answer));
          const headers = { "Content-Type": "application/json", Accept: "application/msgpack" };
          const init = { method: "POST", headers, body: JSON.stringify(body) };
          const packed = msgpack.unpack(await (await ask(`/v1/indexes/${index}/influence`, init)).bytes());
          expect(JSON.stringify(packed)).toBe(text);
        }
      }
    }
  });

  test("names examples as they are described alone", async () => {
    for (const index of ["digits", "words"] as const) {
      const answer = await (await askInfluence(index, { gradient: [...queryOf(index, 1)], topK: 3 })).json<{
        helpful: { id: string; influence: number }[];
        harmful: { id: string; influence: number }[];
      }>();
      for (const { influence, ...example } of [...answer.helpful, ...answer.harmful]) {
        expect(influence).toEqual(expect.any(Number));
        const alone = await ask(`/v1/indexes/${index}/examples/${encodeURIComponent(example.id)}`);
        expect(await alone.json()).toEqual(example);
      }
    }
  });

  test("carries the columns and images of the examples", async () => {
    const answer = await (await askInfluence("digits", { query: "test-1", topK: 1 })).json();
    expect(answer).toMatchObject({
      query: { label: 1, prediction: 6 },
      helpful: [
        { label: expect.any(Number), flipped: expect.any(Boolean), image: expect.stringMatching(/^\/v1\/.*image/) },
      ],
    });
  });

  test("says where the time went, where that is asked", async () => {
    const silent = await askInfluence("digits", { query: "test-1" });
    expect(silent.headers.get("Server-Timing")).toBeNull();
    await silent.text();
    const response = await post("/v1/indexes/digits/influence?timing=true", { query: "test-1" });
    const phases = (response.headers.get("Server-Timing") ?? "").split(", ").map((phase) => phase.split(";")[0]);
    expect(phases).toEqual(["body", "load", "query", "search", "scan", "refine", "read", "total"]);
    await response.text();
  });

  test("with more asked for than there is gives all of each sign", async () => {
    const answer = await (await askInfluence("digits", { query: "test-2", topK: 1000 })).json<
      Record<string, unknown>
    >();
    expect(Object(answer.helpful).length + Object(answer.harmful).length).toBe(500);
  });

  test("of a zero gradient is nothing", async () => {
    const answer = await (await askInfluence("digits", { gradient: Array(32).fill(0) })).json();
    expect(answer).toMatchObject({ helpful: [], harmful: [], exact: true });
  });
});
