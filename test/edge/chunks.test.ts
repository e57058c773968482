/** Bodies in large chunks, of real R2 and of streams that are not of bytes. */
import { env } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { largeChunks } from "../../src/chunks.ts";

const MEGABYTE = 2 ** 20;

/** Bytes that tell where they are. */
const content = (length: number) => Uint8Array.from({ length }, (_, at) => (at * 2_654_435_761) >>> 24);

/** What arrives, copied, because a chunk is overwritten by the next. */
async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const copies: Uint8Array[] = [];
  for await (const chunk of chunks) copies.push(chunk.slice());
  return copies;
}

const joined = async (chunks: Uint8Array[]) =>
  new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());

async function stored(length: number, range?: { offset: number; length: number }) {
  await env.BUCKET.put(`chunks/${length}`, content(length));
  const object = await env.BUCKET.get(`chunks/${length}`, range && { range });
  if (object === null) throw new Error("expected the object that was just put");
  return object.body;
}

describe("of an object in R2", () => {
  test("all bytes arrive, few at a time only at the end", async () => {
    const chunks = await collect(largeChunks(await stored(3 * MEGABYTE + 5)));
    expect(await joined(chunks)).toEqual(content(3 * MEGABYTE + 5));
    expect(chunks.length).toBeLessThan(10);
  });

  test.each([0, 1, 4096, MEGABYTE / 2])("%i bytes arrive", async (length) => {
    expect(await joined(await collect(largeChunks(await stored(length), length)))).toEqual(content(length));
  });

  test("a range arrives, and what is there where more is expected", async () => {
    const range = { offset: 1000, length: 70_000 };
    const expected = content(MEGABYTE).slice(1000, 71_000);
    expect(await joined(await collect(largeChunks(await stored(MEGABYTE, range), 70_000)))).toEqual(expected);
    expect(await joined(await collect(largeChunks(await stored(MEGABYTE, range), 90_000)))).toEqual(expected);
    expect(await joined(await collect(largeChunks(await stored(MEGABYTE, range), 100)))).toEqual(expected);
  });
});

test("who leaves off early cancels the body", async () => {
  let cancelled = false;
  const body: ReadableStream<Uint8Array> = new ReadableStream({
    type: "bytes",
    pull: (controller: ReadableByteStreamController) => controller.enqueue(content(MEGABYTE)),
    cancel: () => {
      cancelled = true;
    },
  });
  for await (const chunk of largeChunks(body)) {
    expect(chunk.length).toBeGreaterThan(0);
    break;
  }
  expect(cancelled).toBe(true);
});

test("a stream that is not of bytes comes in its own chunks", async () => {
  const own = [content(3), content(5)];
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of own) controller.enqueue(chunk);
      controller.close();
    },
  });
  expect(await collect(largeChunks(body))).toEqual(own);
});
