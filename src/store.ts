/**
 * The bucket: pointer → manifest → files (keys in core/manifest.ts). Files of a version never change, so whatever is read under
 * a manifest is checked against that manifest and nothing else.
 */

import type { Bucket, BucketBody, GetOptions } from "./bucket.ts";
import { largeChunks } from "./chunks.ts";
import type { Kernel } from "./core/kernel/kernel.ts";
import { loadInto, readChecked } from "./core/load.ts";
import {
  FILES,
  fileKey,
  INDEXES,
  type Manifest,
  manifestSchema,
  type Pointer,
  pointerKey,
  pointerSchema,
} from "./core/manifest.ts";
import { CorruptIndexError, type IndexSource, type Part } from "./core/source.ts";
import { explain, Problem } from "./problem.ts";

/** One call of the bucket; a failure of the bucket itself (not of what is asked) is 503. */
async function reach<T>(key: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Problem("bucket-unreachable", `${key}: expected the bucket to answer, got "${reason}"; try again.`, {
      "Retry-After": "5",
    });
  }
}

/** Names of all published indexes, ascending. */
export async function indexNames(bucket: Bucket): Promise<string[]> {
  const names: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await reach(INDEXES, () =>
      bucket.list({ prefix: INDEXES, delimiter: "/", ...(cursor === undefined ? {} : { cursor }) }),
    );
    for (const prefix of page.delimitedPrefixes) names.push(prefix.slice(INDEXES.length, -1));
    cursor = page.truncated ? page.cursor : undefined;
  } while (cursor !== undefined);
  return names.sort();
}

/** A pointer and the etag it was read under. */
export interface FoundPointer {
  pointer: Pointer;
  etag: string;
}

/** The pointer of an index; "unchanged" when it still is the one of `etag`; null when there is no such index. */
export async function readPointer(
  bucket: Bucket,
  name: string,
  etag: string | undefined,
): Promise<FoundPointer | "unchanged" | null> {
  const key = pointerKey(name);
  const object = await reach(key, () =>
    bucket.get(key, etag === undefined ? {} : { onlyIf: { etagDoesNotMatch: etag } }),
  );
  if (object === null) return null;
  if (!("body" in object)) return "unchanged";
  const text = await object.text();
  const parsed = pointerSchema.safeParse(parseJson(text));
  if (!parsed.success) throw new CorruptIndexError(key, "a pointer", explain(parsed.error.issues, text));
  return { pointer: parsed.data, etag: object.etag };
}

/** The manifest that a pointer names. Throws CorruptIndexError unless it has the pointer's sha256, name and version. */
export async function readManifest(bucket: Bucket, name: string, pointer: Pointer): Promise<Manifest> {
  const key = fileKey(name, pointer.version, FILES.manifest);
  const bytes = await (await fileBody(bucket, key)).bytes();
  const digest = hex(await crypto.subtle.digest("SHA-256", bytes));
  if (digest !== pointer.manifestSha256) {
    throw new CorruptIndexError(key, `sha256 ${pointer.manifestSha256}`, digest);
  }
  const content = parseJson(new TextDecoder().decode(bytes));
  const parsed = manifestSchema.safeParse(content);
  if (!parsed.success) throw new CorruptIndexError(key, "a manifest", explain(parsed.error.issues, content));
  if (parsed.data.name !== name || parsed.data.version !== pointer.version) {
    const got = `${parsed.data.name} ${parsed.data.version}`;
    throw new CorruptIndexError(key, `the manifest of ${name} ${pointer.version}`, `that of ${got}`);
  }
  return parsed.data;
}

/** The files of one version in the bucket. */
export function bucketSource(bucket: Bucket, name: string, version: string): IndexSource {
  return {
    async stream(file, part) {
      const key = fileKey(name, version, file);
      if (part === undefined) return largeChunks((await fileBody(bucket, key)).body);
      return largeChunks((await bodyOf(bucket, key, part))?.body ?? new Blob().stream(), part.length);
    },
    async range(file, offset, length) {
      const key = fileKey(name, version, file);
      const bytes = (await (await bodyOf(bucket, key, { offset, length }))?.bytes()) ?? new Uint8Array();
      if (bytes.length !== length) {
        throw new CorruptIndexError(key, `${length} bytes at ${offset}`, `${bytes.length}`);
      }
      return bytes;
    },
  };
}

/** R2's code for a range that begins beyond the end. */
const UNSATISFIABLE = "(10039)";

/** A file of a version. Throws CorruptIndexError where there is none. */
async function fileBody(bucket: Bucket, key: string, options: GetOptions = {}): Promise<BucketBody> {
  const object = await reach(key, () => bucket.get(key, options));
  if (object === null || !("body" in object)) throw new CorruptIndexError(key, "a file", "none");
  return object;
}

/** A range, shorter where the file ends before; null where it begins beyond the end. */
async function bodyOf(bucket: Bucket, key: string, range: Part): Promise<BucketBody | null> {
  try {
    return await fileBody(bucket, key, { range });
  } catch (error) {
    if (error instanceof Error && error.message.includes(UNSATISFIABLE)) return null;
    throw error;
  }
}

/** A whole file in memory, checked against the manifest's size and checksum. Throws CorruptIndexError. */
export async function readWhole(
  source: IndexSource,
  kernel: Kernel,
  manifest: Manifest,
  file: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(manifest.files[file]?.bytes ?? 0);
  await loadInto(manifest, source, file, kernel, bytes);
  return bytes;
}

/** Keys of files whose bytes this isolate has seen to be those of their manifest. Files never change. */
const verified = new Set<string>();

/**
 * A file as it is in the bucket, not held in memory. The first time, it is read through to its end and checked before anything
 * is sent, because what has been sent cannot be taken back. Throws CorruptIndexError.
 */
export async function wholeBody(
  bucket: Bucket,
  kernel: Kernel,
  manifest: Manifest,
  file: string,
): Promise<ReadableStream> {
  const key = fileKey(manifest.name, manifest.version, file);
  if (!verified.has(key)) {
    const source = bucketSource(bucket, manifest.name, manifest.version);
    await readChecked(manifest, source, file, kernel, manifest.files[file]?.bytes ?? 0, () => {});
    verified.add(key);
  }
  return (await fileBody(bucket, key)).body;
}

function hex(digest: ArrayBuffer): string {
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
