/** What the tests of buckets share: a server that speaks S3, and files as a manifest lists them. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import S3rver from "s3rver";
import type { ListedFile } from "../../offline/store/bucket.ts";
import type { S3Settings } from "../../offline/store/s3-bucket.ts";

export const newFolder = () => mkdtempSync(path.join(tmpdir(), "publish-"));
export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** A file and what a manifest would list of it. */
export function listed(bytes: Uint8Array): ListedFile {
  const file = path.join(newFolder(), "rows.f32");
  writeFileSync(file, bytes);
  return { path: file, bytes: bytes.length, sha256: sha256(bytes) };
}

/** A server with a bucket "indexes". It asks for a known key, but does not check what is signed with it. */
export async function openS3Server(): Promise<{ settings: S3Settings; close(): Promise<void> }> {
  const directory = path.join(newFolder(), "s3");
  mkdirSync(directory);
  const server = new S3rver({ port: 0, silent: true, directory, configureBuckets: [{ name: "indexes", configs: [] }] });
  const { port } = await server.run();
  const settings = {
    endpoint: `http://localhost:${port}`,
    bucket: "indexes",
    accessKeyId: "S3RVER",
    secretAccessKey: "S3RVER",
  };
  return { settings, close: () => server.close() };
}
