import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, type MockInstance, test, vi } from "vitest";
import { api } from "../../src/api.ts";
import { FILES, fileKey, pointerKey } from "../../src/core/manifest.ts";
import { POINTER_AGE } from "../../src/isolate.ts";
import { workerKernel } from "../../src/kernel.ts";
import {
  ask,
  askInfluence,
  type File,
  fileOf,
  keyOf,
  laterBy,
  publish,
  startAfresh,
  versionOf,
  type Which,
} from "./bucket.ts";
import { bruteForce, queryOf } from "./oracle.ts";

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  await startAfresh();
  logged = vi.spyOn(console, "error").mockReturnValue(undefined);
});

const kernel = workerKernel();
let logged: MockInstance<typeof console.error>;

/** Flips one bit of one object on its way into the bucket. */
const flipping = (target: string, at: number) => (key: string, bytes: Uint8Array) => {
  if (key !== target) return bytes;
  const flipped = bytes.slice();
  flipped[at < 0 ? flipped.length + at : at] ^= 0x10;
  return flipped;
};

async function problem(response: Response) {
  expect(response.headers.get("Content-Type")).toBe("application/problem+json");
  const { status, detail } = await response.json<{ status: number; detail: string }>();
  expect(response.status).toBe(status);
  return { status, detail };
}

async function servedVersion(): Promise<string> {
  const response = await askInfluence("digits", { query: "test-1" });
  return (await response.json<{ index: { version: string } }>()).index.version;
}

/** Asks until the version served is `wanted`: a new one is loaded behind the answers of the old one. */
async function becomes(wanted: string): Promise<void> {
  await vi.waitUntil(async () => (await servedVersion()) === wanted, { timeout: 3_000, interval: 20 });
}

/** `env`, with a count of the reads of each key. */
function counted(extra: Partial<Cloudflare.Env> = {}) {
  const reads = new Map<string, number>();
  const BUCKET = new Proxy(env.BUCKET, {
    get(bucket, property) {
      if (property !== "get") return Reflect.get(bucket, property).bind(bucket);
      return (key: string, options?: R2GetOptions) => {
        reads.set(key, (reads.get(key) ?? 0) + 1);
        return bucket.get(key, options);
      };
    },
  });
  return { reads, env: { ...env, BUCKET, ...extra } };
}

/** A question to an index under settings of its own. */
async function askUnder(settings: Cloudflare.Env, index: string): Promise<Response> {
  const context = createExecutionContext();
  const request = new Request(`http://edge.test/v1/indexes/${index}/influence`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: '{"gradient":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}',
  });
  const response = await api.fetch(request, { ...settings, kernel }, context);
  await waitOnExecutionContext(context);
  return response;
}

describe("a flipped bit", () => {
  const loaded: File[] = [
    FILES.basis,
    FILES.coarse,
    FILES.rows,
    FILES.examples,
    FILES.queryMetadata,
    FILES.queryChecksums,
  ];
  const everywhere = (which: Which, files: File[]) =>
    files.flatMap((file) => [0, 70, -1].map((at) => [which, file, at] as const));
  test.for([
    ...everywhere("digits", loaded),
    ...everywhere("mixed", [FILES.mixing]),
    ...[FILES.basis, FILES.coarse, FILES.rows].map((file) => ["mixed", file, 70] as const),
  ])("of %s, in %s at %i: no answer, and the file is named", async ([which, file, at]) => {
    await publish(which, flipping(keyOf(which, file), at));
    const { status, detail } = await problem(await askInfluence("digits", { query: "test-1" }));
    expect(status).toBe(503);
    expect(detail).toMatch(new RegExp(`${file.replace(".", "\\.")}: expected xxh64 [0-9a-f]{16}, got [0-9a-f]{16}`));
  });

  test("in the manifest or the pointer", async () => {
    const manifest = keyOf("digits", FILES.manifest);
    await publish("digits", flipping(manifest, 40));
    const first = await problem(await askInfluence("digits", { query: "test-1" }));
    expect(first.status).toBe(503);
    expect(first.detail).toMatch(/manifest\.json: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}/);
    await startAfresh();
    await publish("digits", flipping(pointerKey("digits"), 1));
    const second = await problem(await askInfluence("digits", { query: "test-1" }));
    expect(second).toMatchObject({ status: 503, detail: expect.stringContaining(pointerKey("digits")) });
    expect(await (await ask("/v1/indexes")).json()).toMatchObject({ indexes: [], unavailable: [{ name: "digits" }] });
  });

  test("in a stored query: that one has no answer, others have", async () => {
    await publish("digits", flipping(keyOf("digits", FILES.queries), 128 * 3 + 5));
    const bad = await problem(await askInfluence("digits", { query: "test-3" }));
    expect(bad).toMatchObject({
      status: 503,
      detail: expect.stringMatching(/queries\.f32: expected crc32 \w+ of row 3/),
    });
    expect((await askInfluence("digits", { query: "test-4" })).status).toBe(200);
  });

  test("in the mask or the gradient graph", async () => {
    for (const [file, path] of [
      [FILES.mask, "mask"],
      [FILES.gradientGraph, "gradient.onnx"],
    ] as const) {
      await startAfresh();
      await publish("digits", flipping(keyOf("digits", file), 100));
      const { status, detail } = await problem(await ask(`/v1/indexes/digits/${path}`));
      expect(status).toBe(503);
      expect(detail).toContain(file);
    }
  });

  test("anywhere in an image, or in where it lies", async () => {
    const { length } = fileOf("digits", FILES.queryImages);
    for (const at of [64 + 4 * 19, 64 + 4 * 20 + 1, length - 1, length - 20, length - 60]) {
      await startAfresh();
      await publish("digits", flipping(keyOf("digits", FILES.queryImages), at));
      const { status, detail } = await problem(await ask("/v1/indexes/digits/queries/test-19/image"));
      expect({ at, status }).toEqual({ at, status: 503 });
      expect(detail).toContain(FILES.queryImages);
    }
  });

  test("a missing or shorter file is refused as well", async () => {
    await publish("digits", (key, bytes) => (key === keyOf("digits", FILES.coarse) ? null : bytes));
    expect((await problem(await askInfluence("digits", { query: "test-1" }))).detail).toMatch(
      /coarse\.bin: expected a file/,
    );
    await startAfresh();
    await publish("digits", (key, bytes) => (key === keyOf("digits", FILES.coarse) ? bytes.slice(0, -1) : bytes));
    expect((await problem(await askInfluence("digits", { query: "test-1" }))).detail).toMatch(/coarse\.bin: expected/);
  });
});

describe("a new version", () => {
  test.for<Which>(["newer", "mixed"])("%s replaces the old one while that serves", async (next) => {
    await publish("digits");
    expect(await servedVersion()).toBe(versionOf("digits"));
    await publish(next);
    expect(await servedVersion()).toBe(versionOf("digits"));
    laterBy(POINTER_AGE + 1);
    await becomes(versionOf(next));
    for (const row of [1, 8, 19]) {
      const answer = await (await askInfluence("digits", { query: `test-${row}` })).json();
      expect(answer).toMatchObject({ exact: true, ...bruteForce(next, queryOf(next, row), 10) });
    }
    await publish("digits");
    laterBy(POINTER_AGE + 1);
    await becomes(versionOf("digits"));
  });

  test.for<[Which, File]>([
    ["newer", FILES.coarse],
    ["mixed", FILES.mixing],
  ])("%s, corrupt in %s, never serves, and the old one goes on", async ([next, file]) => {
    await publish("digits");
    await servedVersion();
    await publish(next, flipping(keyOf(next, file), 500));
    for (let asked = 0; asked < 10; asked++) {
      laterBy(POINTER_AGE + 1);
      expect(await servedVersion()).toBe(versionOf("digits"));
      await scheduler.wait(5);
    }
    expect(logged).toHaveBeenCalledWith(expect.stringContaining("goes on"), expect.objectContaining({ file }));
    expect(await (await ask("/v1/indexes/digits")).json()).toMatchObject({ version: versionOf("digits") });
    await publish(next);
    laterBy(60_000);
    await becomes(versionOf(next));
  });

  test("that does not fit beside the old one replaces it, or the old one comes back", async () => {
    const { env: small } = counted({ RESIDENT_BYTES: "500000" });
    await publish("digits");
    expect((await askUnder(small, "digits")).status).toBe(200);
    await publish("newer", flipping(keyOf("newer", FILES.coarse), 500));
    laterBy(POINTER_AGE + 1);
    await askUnder(small, "digits");
    expect(await (await askUnder(small, "digits")).json()).toMatchObject({ index: { version: versionOf("digits") } });
    await publish("newer");
    laterBy(60_000);
    await askUnder(small, "digits");
    expect(await (await askUnder(small, "digits")).json()).toMatchObject({ index: { version: versionOf("newer") } });
  });

  test("an index that is withdrawn is gone", async () => {
    await publish("digits");
    await servedVersion();
    await env.BUCKET.delete(pointerKey("digits"));
    laterBy(POINTER_AGE + 1);
    await vi.waitUntil(async () => (await askInfluence("digits", { query: "test-1" })).status === 404, {
      timeout: 3_000,
    });
  });
});

describe("loading", () => {
  test("happens once, however many requests wait", async () => {
    await publish("digits");
    const { env: watched, reads } = counted();
    const answers = await Promise.all(Array.from({ length: 20 }, () => askUnder(watched, "digits")));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
    for (const file of [FILES.manifest, FILES.coarse, FILES.rows, FILES.examples]) {
      expect(reads.get(fileKey("digits", versionOf("digits"), file))).toBe(1);
    }
    await askUnder(watched, "digits");
    expect(reads.get(pointerKey("digits"))).toBe(1);
  });

  test("that hangs is taken over by another request", async () => {
    await publish("digits");
    const stuck = new Proxy(env.BUCKET, { get: () => () => new Promise(() => {}) });
    const lost = api.fetch(
      new Request("http://edge.test/v1/indexes/digits/queries"),
      { ...env, BUCKET: stuck, kernel },
      createExecutionContext(),
    );
    const waiting = askInfluence("digits", { query: "test-1" });
    await scheduler.wait(20);
    laterBy(60_000);
    expect((await waiting).status).toBe(200);
    expect(await Promise.race([lost, scheduler.wait(10).then(() => "lost")])).toBe("lost");
  });

  test("that fails is not repeated for every request", async () => {
    await publish("digits", flipping(keyOf("digits", FILES.coarse), 500));
    const { env: watched, reads } = counted();
    for (let asked = 0; asked < 5; asked++) expect((await askUnder(watched, "digits")).status).toBe(503);
    expect(reads.get(keyOf("digits", FILES.coarse))).toBe(1);
    await publish("digits");
    laterBy(60_000);
    expect((await askUnder(watched, "digits")).status).toBe(200);
  });

  test("of too much is refused with what would fit", async () => {
    await publish("digits");
    const { env: tiny } = counted({ RESIDENT_BYTES: "100000" });
    const { status, detail } = await problem(await askUnder(tiny, "digits"));
    expect(status).toBe(507);
    expect(detail).toMatch(
      /at most 100000 bytes.*n = 500 and R = 32; build it with R of about \d+ or with about \d+ examples/,
    );
  });

  test("closes the least recently used index for another", async () => {
    await publish("digits");
    await publish("words");
    const { env: small, reads } = counted({ RESIDENT_BYTES: "600000" });
    for (const index of ["digits", "words", "digits"]) expect((await askUnder(small, index)).status).toBe(200);
    expect(reads.get(keyOf("digits", FILES.coarse))).toBe(2);
    expect(reads.get(keyOf("words", FILES.coarse))).toBe(1);
  });

  test("without a usable budget is not ready", async () => {
    await publish("digits");
    const { status, detail } = await problem(await askUnder({ ...env, RESIDENT_BYTES: "much" }, "digits"));
    expect(status).toBe(503);
    expect(detail).toContain('RESIDENT_BYTES: expected a number of bytes, got "much"');
  });
});
