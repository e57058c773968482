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
import { sha256OfFile } from "../index/index-files.ts";
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

/** True when the bucket's pointer already names this index's version. */
export async function isPublished(folder: string, bucket: Bucket): Promise<boolean> {
  const manifest = readManifest(folder);
  const bytes = await bucket.get(pointerKey(manifest.name));
  if (bytes === null) return false;
  const pointer = pointerSchema.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
  return pointer.success && pointer.data.manifestSha256 === pointerTo(folder, manifest).manifestSha256;
}

/**
 * Uploads what is not there yet. Each file is checked against the manifest first; a version's prefix is named by its
 * contents, so what is there from an interrupted upload is the same bytes.
 * Throws an Error that names a file changed since the index was built; the pointer then still names the version before.
 */
export async function publish(folder: string, bucket: Bucket, progress: StepProgress): Promise<Manifest> {
  const manifest = readManifest(folder);
  for (const [file, expected] of Object.entries(manifest.files)) {
    const key = fileKey(manifest.name, manifest.version, file);
    const sha256 = sha256OfFile(join(folder, file));
    if (sha256 !== expected.sha256) {
      throw new Error(
        `${join(folder, file)}: expected sha256 ${expected.sha256}, got ${sha256}; delete ${folder} and build again`,
      );
    }
    if ((await bucket.size(key)) !== expected.bytes) await bucket.putFile(key, join(folder, file), expected.sha256);
    progress.advance(expected.bytes / 1e6);
  }
  await bucket.put(
    fileKey(manifest.name, manifest.version, FILES.manifest),
    readFileSync(join(folder, FILES.manifest)),
  );
  await bucket.put(pointerKey(manifest.name), new TextEncoder().encode(JSON.stringify(pointerTo(folder, manifest))));
  return manifest;
}
