/** The versions of an index that a bucket holds: the published one, those before it, and what an upload has left. */
import { INDEXES, pointerKey } from "../../src/core/manifest.ts";
import type { Bucket } from "./bucket.ts";
import { readPointer } from "./publish.ts";

export type VersionState = "published" | "unpublished" | "kept" | "unused";

export interface StoredVersion {
  version: string;
  /** unpublished: uploaded after the published one, or being uploaded; unused: nobody asks for it any more. */
  state: VersionState;
  bytes: number;
  /** When its last object was. */
  uploaded: Date;
  keys: string[];
}

/**
 * All versions of an index, the last uploaded first. Of those before the published one, `keep` are kept: an isolate that has slept still
 * answers once from the version that it holds. Throws an Error where no index of that name is published.
 */
export async function storedVersions(name: string, bucket: Bucket, keep: number): Promise<StoredVersion[]> {
  const pointer = await readPointer(name, bucket);
  if (pointer === null) {
    throw new Error(
      `${bucket.name}: expected a published index named "${name}", got no ${pointerKey(name)} that can be read; publish one, or name another`,
    );
  }
  const prefix = `${INDEXES}${name}/`;
  const versions = new Map<string, StoredVersion>();
  for (const { key, bytes, uploaded } of await bucket.list(prefix)) {
    const [version = "", file] = key.slice(prefix.length).split("/");
    if (file === undefined) continue;
    const known = versions.get(version);
    if (known === undefined) {
      versions.set(version, { version, state: "unpublished", bytes, uploaded, keys: [key] });
    } else {
      known.keys.push(key);
      known.bytes += bytes;
      if (uploaded > known.uploaded) known.uploaded = uploaded;
    }
  }
  const sorted = [...versions.values()].sort((one, other) => other.uploaded.getTime() - one.uploaded.getTime());
  // Publishing writes the manifest each time, so nothing of the published version's past is newer than it.
  let before = 0;
  const published = versions.get(pointer.version);
  for (const one of sorted) {
    if (one === published) one.state = "published";
    else if (published !== undefined && one.uploaded < published.uploaded)
      one.state = before++ < keep ? "kept" : "unused";
  }
  return sorted;
}

/** Deletes the unused of `versions`, each whole before the next. */
export async function deleteUnused(versions: readonly StoredVersion[], bucket: Bucket): Promise<void> {
  for (const { state, keys } of versions) {
    if (state === "unused") for (const key of keys) await bucket.delete(key);
  }
}
