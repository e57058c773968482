/** Files of an index, checked against its manifest while they arrive. */
import { Checksum } from "./checksum.ts";
import type { Kernel } from "./kernel/kernel.ts";
import type { Manifest, ManifestFile } from "./manifest.ts";
import { CorruptIndexError, type IndexSource } from "./source.ts";

/** Streams `file` into `target`, which is as long as the format says the file is. Throws as readChecked does. */
export async function loadInto(
  manifest: Manifest,
  source: IndexSource,
  file: string,
  kernel: Kernel,
  target: Uint8Array,
): Promise<void> {
  await readChecked(manifest, source, file, kernel, target.length, (chunk, at) => target.set(chunk, at));
}

/**
 * Streams `file`, which is to have `length` bytes, and gives `take` each chunk and where it begins. Throws CorruptIndexError if the
 * manifest does not list the file, or lists or delivers another length or other bytes.
 */
export async function readChecked(
  manifest: Manifest,
  source: IndexSource,
  file: string,
  kernel: Kernel,
  length: number,
  take: (chunk: Uint8Array, at: number) => void,
): Promise<void> {
  const listed = checkListed(manifest, file, length);
  const checksum = new Checksum(kernel);
  let at = 0;
  for await (const chunk of await source.stream(file)) {
    if (at + chunk.length > length) {
      throw new CorruptIndexError(file, `${length} bytes`, `at least ${at + chunk.length}`);
    }
    take(chunk, at);
    at += chunk.length;
    checksum.update(chunk);
  }
  if (at !== length) throw new CorruptIndexError(file, `${length} bytes`, `${at}`);
  const xxh64 = checksum.finish();
  if (xxh64 !== listed.xxh64) throw new CorruptIndexError(file, `xxh64 ${listed.xxh64}`, xxh64);
}

/** What the manifest says of `file`. Throws CorruptIndexError unless it is there with `bytes` bytes. */
export function checkListed(manifest: Manifest, file: string, bytes: number): ManifestFile {
  const listed = manifest.files[file];
  if (listed === undefined) throw new CorruptIndexError(file, "an entry in manifest.json", "none");
  if (listed.bytes !== bytes) {
    throw new CorruptIndexError(
      file,
      `${bytes} bytes for n = ${manifest.n}, R = ${manifest.dimension}`,
      `${listed.bytes} in manifest.json`,
    );
  }
  return listed;
}
