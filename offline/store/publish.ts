/** Publish: the files of a version under its own prefix, then its manifest, and the pointer last. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  FILES,
  fileKey,
  type Manifest,
  manifestSchema,
  type Pointer,
  pointerKey,
  pointerSchema,
} from "../../src/core/manifest.ts";
import type { StepProgress } from "../command/progress.ts";
import type { Bucket } from "./bucket.ts";

export function readManifest(folder: string): Manifest {
  return manifestSchema.parse(JSON.parse(readFileSync(join(folder, FILES.manifest), "utf8")));
}

function pointerTo(folder: string, manifest: Manifest): Pointer {
  const manifestSha256 = createHash("sha256")
    .update(readFileSync(join(folder, FILES.manifest)))
    .digest("hex");
  return { version: manifest.version, manifestSha256 };
}

const parsed = (bytes: Uint8Array | null): unknown => bytes && JSON.parse(new TextDecoder().decode(bytes));

/** What the bucket's pointer names; null where there is none of this format. */
export async function readPointer(name: string, bucket: Bucket): Promise<Pointer | null> {
  return pointerSchema.safeParse(parsed(await bucket.get(pointerKey(name)))).data ?? null;
}

/** True when the bucket's pointer already names this index's version. */
export async function isPublished(folder: string, bucket: Bucket): Promise<boolean> {
  const manifest = readManifest(folder);
  const pointer = await readPointer(manifest.name, bucket);
  return pointer?.manifestSha256 === pointerTo(folder, manifest).manifestSha256;
}

/** Keys of the files of the version that is published now, by their sha256; none where there is none of this format. */
async function publishedFiles(name: string, bucket: Bucket): Promise<Map<string, string>> {
  const pointer = await readPointer(name, bucket);
  if (pointer === null) return new Map();
  const { version } = pointer;
  const manifest = manifestSchema.safeParse(parsed(await bucket.get(fileKey(name, version, FILES.manifest))));
  if (!manifest.success) return new Map();
  const { files } = manifest.data;
  return new Map(Object.entries(files).map(([file, { sha256 }]) => [sha256, fileKey(name, version, file)]));
}

/**
 * Uploads what is not there yet, each file checked against the manifest as it goes; what the published version has too is copied
 * within the bucket. A version's prefix is named by its contents, so what is there from an interrupted upload is the same bytes.
 * Throws an Error that names a file changed since the index was built; the pointer then still names the version before.
 */
export async function publish(folder: string, bucket: Bucket, progress: StepProgress): Promise<Manifest> {
  const manifest = readManifest(folder);
  const { name, version } = manifest;
  const published = await publishedFiles(name, bucket);
  for (const [file, { bytes, sha256 }] of Object.entries(manifest.files)) {
    const key = fileKey(name, version, file);
    const same = published.get(sha256);
    if ((await bucket.size(key)) === bytes || (same !== undefined && (await bucket.copy(same, key)))) {
      progress.advance(bytes / 1e6);
    } else {
      await bucket.putFile(key, { path: join(folder, file), bytes, sha256 }, (some) => progress.advance(some / 1e6));
    }
  }
  await bucket.put(fileKey(name, version, FILES.manifest), readFileSync(join(folder, FILES.manifest)));
  await bucket.put(pointerKey(name), new TextEncoder().encode(JSON.stringify(pointerTo(folder, manifest))));
  return manifest;
}
