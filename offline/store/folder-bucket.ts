/** Folders of built indexes as the bucket that the API reads: the same keys, nothing copied. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { access, open, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import type { Bucket, BucketBody, GetOptions } from "../../src/bucket.ts";
import { FILES, INDEXES, manifestSchema, type Pointer, pointerKey } from "../../src/core/manifest.ts";

/** Bytes that one read of a stream takes. */
const STREAM_BYTES = 1024 * 1024;

/**
 * An index's folder, and the pointer to what lies there now: a build that replaces it is a new version. Until that is loaded, what
 * the old one reads from its files is refused by its checksums.
 */
interface Published {
  folder: string;
  pointer: Pointer;
}

/**
 * The indexes of folders: of each the folder itself, `index` in it, or those of each folder in it, such as runs/. Each is published
 * under its name. Throws an Error where a folder has none, or where two have the same name.
 */
export async function folderBucket(
  given: readonly string[],
): Promise<{ bucket: Bucket; folders: Map<string, string> }> {
  const folders = new Map<string, string>();
  for (const folder of given) {
    for (const found of await indexFolders(folder)) {
      const { name } = (await read(found)).manifest;
      const other = folders.get(name);
      if (other === found) continue;
      if (other !== undefined) {
        throw new Error(
          `${found}: expected an index of another name than ${other}, got "${name}" twice; serve one of them, or build one with another name`,
        );
      }
      folders.set(name, found);
    }
  }
  return { bucket: bucketOf(folders), folders };
}

async function indexFolders(folder: string): Promise<string[]> {
  const inside = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const children = inside.filter((entry) => entry.isDirectory() || entry.isSymbolicLink()).map(({ name }) => name);
  const own = await withManifest([folder, path.join(folder, "index")]);
  if (own.length > 0) return own.slice(0, 1);
  const runs = await withManifest(
    children.sort().flatMap((child) => [path.join(folder, child), path.join(folder, child, "index")]),
  );
  if (runs.length > 0) return runs;
  throw new Error(
    `${folder}: expected ${FILES.manifest} of an index, there or in a run below, got none; build one with influence build`,
  );
}

async function withManifest(folders: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const folder of folders) {
    const exists = await access(path.join(folder, FILES.manifest)).then(
      () => true,
      () => false,
    );
    if (exists) found.push(folder);
  }
  return found;
}

async function read(folder: string) {
  const bytes = await readFile(path.join(folder, FILES.manifest));
  const parsed = manifestSchema.safeParse(JSON.parse(bytes.toString("utf8")));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = `${path.join(folder, FILES.manifest)}, ${issue?.path.join(".")}`;
    throw new Error(`${where}: expected a manifest of this format, got "${issue?.message}"; build the index again`);
  }
  return { manifest: parsed.data, manifestSha256: createHash("sha256").update(bytes).digest("hex") };
}

function bucketOf(folders: ReadonlyMap<string, string>): Bucket {
  const published = new Map<string, Published>();
  /** Looks at the manifest, and remembers which version's files lie in the folder. */
  const look = async (name: string, folder: string): Promise<Published | null> => {
    try {
      const { manifest, manifestSha256 } = await read(folder);
      const current = { folder, pointer: { version: manifest.version, manifestSha256 } };
      published.set(name, current);
      return manifest.name === name ? current : null;
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  };
  return {
    async get(key, options = {}) {
      const [name = "", ...rest] = key.slice(INDEXES.length).split("/");
      const folder = folders.get(name);
      if (folder === undefined) return null;
      if (key === pointerKey(name)) {
        const current = await look(name, folder);
        if (current === null) return null;
        const etag = current.pointer.manifestSha256;
        if (options.onlyIf?.etagDoesNotMatch === etag) return { etag };
        const bytes = new TextEncoder().encode(JSON.stringify(current.pointer));
        const text = async () => JSON.stringify(current.pointer);
        return { etag, text, bytes: async () => bytes, body: new Blob([bytes]).stream() };
      }
      const [version, file = ""] = rest;
      const current = published.get(name) ?? (await look(name, folder));
      if (current === null || current.pointer.version !== version || rest.length !== 2) return null;
      return await fileOf(path.join(folder, file), version, options);
    },
    list: async () => ({
      delimitedPrefixes: [...folders.keys()].map((name) => `${INDEXES}${name}/`),
      truncated: false,
    }),
  };
}

/** A file or a range of it, null if there is none. A range that the file ends before is as long as the file lets it be. */
async function fileOf(file: string, etag: string, { range }: GetOptions): Promise<BucketBody | null> {
  const handle = await open(file, "r").catch((error) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (handle === null) return null;
  const offset = range?.offset ?? 0;
  const bytes = async () => {
    try {
      const wanted = new Uint8Array(range?.length ?? (await handle.stat()).size);
      const { bytesRead } = await handle.read(wanted, 0, wanted.length, offset);
      return wanted.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  };
  return {
    etag,
    bytes,
    text: async () => new TextDecoder().decode(await bytes()),
    get body() {
      const end = range === undefined ? Number.POSITIVE_INFINITY : offset + range.length - 1;
      return Readable.toWeb(createReadStream("", { fd: handle, start: offset, end, highWaterMark: STREAM_BYTES }));
    },
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}
