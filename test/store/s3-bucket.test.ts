import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openS3Bucket, type S3Settings, s3SettingsFromEnvironment } from "../../offline/store/s3-bucket.ts";
import { pointerKey } from "../../src/core/manifest.ts";
import { listed, openS3Server } from "./s3-server.ts";

let settings: S3Settings;
let server: Awaited<ReturnType<typeof openS3Server>>;
beforeAll(async () => {
  server = await openS3Server();
  settings = server.settings;
});
afterAll(() => server.close());

/** A server that hands requests on to the S3 server once `pass` has let them through, and says where it is. */
async function between(
  pass: (asked: IncomingMessage) => boolean,
  seen: (asked: IncomingMessage, sha256: string) => void,
) {
  const server = createServer((asked, answered) => {
    if (!pass(asked)) return void asked.socket.destroy();
    const hash = createHash("sha256");
    const { hostname, port } = new URL(settings.endpoint);
    const { method, url: path, headers } = asked;
    const onward = request({ hostname, port, method, path, headers }, (response) => {
      seen(asked, hash.digest("hex"));
      answered.writeHead(response.statusCode ?? 500, response.headers);
      response.pipe(answered);
    });
    asked.on("data", (chunk) => hash.update(chunk)).pipe(onward);
  }).listen(0, "localhost");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { endpoint: `http://localhost:${port}`, close: () => server.close() };
}

test("every body over S3 is signed with its sha256, by which the server knows it", async () => {
  const signed: [unknown, string][] = [];
  const { endpoint, close } = await between(
    () => true,
    (asked, was) => signed.push([asked.headers["x-amz-content-sha256"], was]),
  );
  const bucket = openS3Bucket({ ...settings, endpoint });
  await bucket.put("signed/bytes", randomBytes(100));
  for (const length of [1000, 17_000_001]) await bucket.putFile("signed/file", listed(randomBytes(length)), () => {});
  expect(await bucket.size("signed/file")).toBe(17_000_001);
  // One and one, and of the last file its beginning, two parts and its end; the size.
  expect(signed).toHaveLength(7);
  for (const [said, was] of signed) expect(said).toBe(was);
  await bucket.close();
  close();
});

test("a connection that breaks is tried again, more often once the bucket has answered", async () => {
  let [broken, left] = [0, 0];
  const pass = () => {
    if (left > 0) broken++;
    return left-- <= 0;
  };
  const { endpoint, close } = await between(pass, () => {});
  const bucket = openS3Bucket({ ...settings, endpoint });
  left = 2;
  expect(await bucket.size("broken/file")).toBeNull();
  left = 6;
  const bytes = randomBytes(1000);
  await bucket.putFile("broken/file", listed(bytes), () => {});
  expect(broken).toBe(8);
  expect(await bucket.get("broken/file")).toEqual(new Uint8Array(bytes));
  left = Number.POSITIVE_INFINITY;
  broken = 0;
  await expect(openS3Bucket({ ...settings, endpoint }).size("broken/file")).rejects.toThrow(
    /ECONNRESET.*; run it again/,
  );
  expect(broken).toBe(4);
  await bucket.close();
  close();
});

describe("what cannot be published over S3 says what to do:", () => {
  const asked = (changed: Partial<S3Settings>) => openS3Bucket({ ...settings, ...changed });

  test("an unknown key", async () => {
    const asking = asked({ accessKeyId: "nobody" }).get(pointerKey("digits"));
    await expect(asking).rejects.toThrow(/indexes\/.*InvalidAccessKeyId.*; set R2_ACCESS_KEY_ID/);
  });

  test("an unknown bucket", async () => {
    const file = listed(randomBytes(100));
    const sending = asked({ bucket: "elsewhere" }).putFile("indexes/digits", file, () => {});
    await expect(sending).rejects.toThrow(/elsewhere.*NoSuchBucket.*; make it with `npx wrangler r2 bucket create`/);
  });

  test("an address where something else answers", async () => {
    const other = createServer((asked, answered) => asked.resume().on("end", () => answered.writeHead(404).end("no")));
    other.listen(0, "localhost");
    await once(other, "listening");
    const asking = asked({ endpoint: `http://localhost:${(other.address() as AddressInfo).port}` });
    expect(await asking.size("indexes/digits")).toBeNull();
    await expect(asking.put("indexes/digits", Uint8Array.of(1))).rejects.toThrow(
      /indexes\/digits: expected to be served/,
    );
    await expect(asking.putFile("indexes/digits", listed(randomBytes(10)), () => {})).rejects.toThrow(/to be served/);
    await asking.close();
    other.close();
  });

  test("an address where nothing answers", async () => {
    const asking = asked({ endpoint: "http://localhost:1" }).size("indexes/digits");
    await expect(asking).rejects.toThrow(/http:\/\/localhost:1\/indexes.*ECONNREFUSED.*; run it again/);
  });

  test("variables that are missing, or no address", () => {
    const given = {
      R2_ENDPOINT: "https://r2.example",
      R2_BUCKET: "b",
      R2_ACCESS_KEY_ID: "k",
      R2_SECRET_ACCESS_KEY: "s",
    };
    expect(s3SettingsFromEnvironment(given)).toEqual({
      endpoint: "https://r2.example",
      bucket: "b",
      accessKeyId: "k",
      secretAccessKey: "s",
    });
    const { R2_BUCKET: _, R2_ACCESS_KEY_ID: __, ...some } = given;
    expect(() => s3SettingsFromEnvironment(some)).toThrow(/R2_BUCKET, R2_ACCESS_KEY_ID; set them/);
    expect(() => s3SettingsFromEnvironment({ ...given, R2_ENDPOINT: "r2.example" })).toThrow(/R2_ENDPOINT: expected/);
  });
});
