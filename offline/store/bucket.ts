/** Where an index is published: local R2 (the one `wrangler dev` serves from) or Cloudflare's R2 through its S3 interface. */
import { createHash } from "node:crypto";
import { createReadStream, openAsBlob } from "node:fs";
import { join } from "node:path";
import type { R2Bucket, R2UploadedPart } from "@cloudflare/workers-types";
import { AwsClient } from "aws4fetch";

export interface Bucket {
  /** What a person calls it. */
  name: string;
  /** Size of an object in bytes, or null. */
  size(key: string): Promise<number | null>;
  get(key: string): Promise<Uint8Array | null>;
  put(key: string, bytes: Uint8Array): Promise<void>;
  putFile(key: string, path: string, sha256: string): Promise<void>;
  close(): Promise<void>;
}

/** A file goes up in parts of this size, so that it is never whole in memory. R2 wants equal parts of 5 MiB or more. */
const PART_BYTES = 8 * 1024 * 1024;

/** The R2 bucket that `wrangler dev` keeps on this machine, bound as BUCKET in wrangler.toml. `persistPath`: as its --persist-to. */
export async function openLocalBucket(wranglerConfig: string, persistPath?: string): Promise<Bucket> {
  // Imported here: wrangler takes a second to load, which steps that do not publish need not wait for.
  const { getPlatformProxy } = await import("wrangler");
  const proxy = await getPlatformProxy<{ BUCKET: R2Bucket }>({
    configPath: wranglerConfig,
    ...(persistPath === undefined ? {} : { persist: { path: join(persistPath, "v3") } }),
  });
  const { BUCKET } = proxy.env;
  return {
    name: "local R2",
    size: async (key) => (await BUCKET.head(key))?.size ?? null,
    get: async (key) => {
      const object = await BUCKET.get(key);
      return object ? new Uint8Array(await object.arrayBuffer()) : null;
    },
    put: async (key, bytes) => {
      await BUCKET.put(key, bytes);
    },
    putFile: async (key, path) => {
      const upload = await BUCKET.createMultipartUpload(key);
      const parts: R2UploadedPart[] = [];
      for await (const part of createReadStream(path, { highWaterMark: PART_BYTES })) {
        parts.push(await upload.uploadPart(parts.length + 1, part));
      }
      await upload.complete(parts);
    },
    close: () => proxy.dispose(),
  };
}

export interface S3Settings {
  /** https://<account>.r2.cloudflarestorage.com */
  endpoint: string;
  bucket: string;
  accessKeyId: string;
  secretAccessKey: string;
}

/** The S3 settings that the environment gives. Throws an Error that names the variables missing. */
export function s3SettingsFromEnvironment(environment: NodeJS.ProcessEnv): S3Settings {
  const wanted = {
    endpoint: "R2_ENDPOINT",
    bucket: "R2_BUCKET",
    accessKeyId: "R2_ACCESS_KEY_ID",
    secretAccessKey: "R2_SECRET_ACCESS_KEY",
  };
  const missing = Object.values(wanted).filter((name) => !environment[name]);
  if (missing.length > 0)
    throw new Error(
      `publish --to r2: expected the environment variables ${missing.join(", ")}; set them and run again`,
    );
  const read = (name: string) => environment[name] ?? "";
  return {
    endpoint: read(wanted.endpoint),
    bucket: read(wanted.bucket),
    accessKeyId: read(wanted.accessKeyId),
    secretAccessKey: read(wanted.secretAccessKey),
  };
}

/** Cloudflare's R2, or anything else that speaks S3. */
export function openS3Bucket(settings: S3Settings): Bucket {
  const client = new AwsClient({
    accessKeyId: settings.accessKeyId,
    secretAccessKey: settings.secretAccessKey,
    service: "s3",
    region: "auto",
    retries: 5,
  });
  const url = (key: string) =>
    `${settings.endpoint.replace(/\/$/, "")}/${settings.bucket}/${key.split("/").map(encodeURIComponent).join("/")}`;
  const request = async (key: string, init: RequestInit): Promise<Response | null> => {
    const response = await client.fetch(url(key), init);
    if (response.status === 404) return null;
    if (!response.ok) {
      throw new Error(
        `${init.method} ${url(key)}: expected 200, got ${response.status} ${(await response.text()).slice(0, 200)}`,
      );
    }
    return response;
  };
  const put = async (key: string, body: Blob, sha256: string) => {
    const headers = { "content-length": String(body.size), "x-amz-content-sha256": sha256 };
    const response = await request(key, { method: "PUT", body, headers });
    if (response === null) throw new Error(`PUT ${url(key)}: no such bucket: ${settings.bucket}`);
  };
  return {
    name: `${settings.endpoint}/${settings.bucket}`,
    size: async (key) => {
      const response = await request(key, { method: "HEAD" });
      return response ? Number(response.headers.get("content-length")) : null;
    },
    get: async (key) => {
      const response = await request(key, { method: "GET" });
      return response ? new Uint8Array(await response.arrayBuffer()) : null;
    },
    put: (key, bytes) => put(key, new Blob([Uint8Array.from(bytes)]), createHash("sha256").update(bytes).digest("hex")),
    putFile: async (key, path, sha256) => put(key, await openAsBlob(path), sha256),
    close: async () => {},
  };
}
