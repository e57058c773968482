import { env } from "cloudflare:workers";
import { beforeAll, expect, test } from "vitest";
import { FILES } from "../../src/core/manifest.ts";
import { CorruptIndexError } from "../../src/core/source.ts";
import { bucketSource, indexNames, readPointer } from "../../src/store.ts";
import { fileOf, publish, startAfresh, versionOf } from "./bucket.ts";

beforeAll(async () => {
  await startAfresh();
  await publish("digits");
});

const source = () => bucketSource(env.BUCKET, "digits", versionOf("digits"));

test("a file as a stream and in ranges is the bytes that were put", async () => {
  const bytes = fileOf("digits", FILES.rows);
  const chunks: number[] = [];
  for await (const chunk of await source().stream(FILES.rows)) chunks.push(...chunk);
  expect(new Uint8Array(chunks)).toEqual(bytes);
  for (const [offset, length] of [
    [0, 1],
    [127, 300],
    [bytes.length - 5, 5],
  ]) {
    expect(await source().range(FILES.rows, offset, length)).toEqual(bytes.slice(offset, offset + length));
  }
});

test("a range beyond the end, and a file that is not there, are refused by name", async () => {
  const { length } = fileOf("digits", FILES.rows);
  await expect(source().range(FILES.rows, length - 4, 8)).rejects.toThrow(
    /rows\.f32: expected 8 bytes at 63996, got 4/,
  );
  await expect(source().range(FILES.rows, length + 4, 8)).rejects.toThrow(
    /rows\.f32: expected 8 bytes at 64004, got 0/,
  );
  await expect(source().range("none.bin", 0, 8)).rejects.toThrow(CorruptIndexError);
  await expect(source().stream("none.bin")).rejects.toThrow(/none\.bin: expected a file, got none/);
});

test("a pointer is read again only when it changed", async () => {
  const first = await readPointer(env.BUCKET, "digits", undefined);
  if (first === null || first === "unchanged") throw new Error("expected a pointer");
  expect(first.pointer.version).toBe(versionOf("digits"));
  expect(await readPointer(env.BUCKET, "digits", first.etag)).toBe("unchanged");
  await publish("newer");
  expect(await readPointer(env.BUCKET, "digits", first.etag)).toMatchObject({
    pointer: { version: versionOf("newer") },
  });
  expect(await readPointer(env.BUCKET, "none", undefined)).toBeNull();
  await env.BUCKET.delete("indexes/digits/current.json");
  expect(await readPointer(env.BUCKET, "digits", first.etag)).toBeNull();
});

test("names are those of the folders, in order", async () => {
  await publish("words");
  await publish("digits");
  expect(await indexNames(env.BUCKET)).toEqual(["digits", "words"]);
});
