/** Publishing, to both kinds of bucket: local R2, which a Worker writes, and a server that speaks S3. */
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Bucket } from "../../offline/store/bucket.ts";
import { openLocalBucket } from "../../offline/store/local-bucket.ts";
import { isPublished, publish, readManifest } from "../../offline/store/publish.ts";
import { openS3Bucket } from "../../offline/store/s3-bucket.ts";
import { deleteUnused, storedVersions } from "../../offline/store/versions.ts";
import { FILES, fileKey, type Manifest, pointerKey } from "../../src/core/manifest.ts";
import { syntheticObjects } from "../synthetic.ts";
import { listed, newFolder, openS3Server, sha256 } from "./s3-server.ts";

/** Every call of a bucket that writes, in order. */
function watched(bucket: Bucket): Bucket & { written: string[] } {
  const written: string[] = [];
  return {
    ...bucket,
    written,
    put: (key, bytes) => {
      written.push(`put ${path.posix.basename(key)}`);
      return bucket.put(key, bytes);
    },
    putFile: (key, file, advance) => {
      written.push(`upload ${path.posix.basename(key)}`);
      return bucket.putFile(key, file, advance);
    },
    copy: async (from, to) => {
      const copied = await bucket.copy(from, to);
      if (copied) written.push(`copy ${path.posix.basename(to)}`);
      return copied;
    },
  };
}

/** An index of 60 rows in a folder, as a build leaves it. */
async function builtIndex(name: string): Promise<string> {
  const folder = newFolder();
  for (const [key, bytes] of await syntheticObjects({ name, seed: 1, n: 60, queries: 5, images: true })) {
    if (key !== pointerKey(name)) writeFileSync(path.join(folder, path.posix.basename(key)), bytes);
  }
  return folder;
}

const counted = () => {
  const counts: number[] = [];
  const sum = () => counts.reduce((all, some) => all + some, 0);
  return { sum, advance: (some: number) => void counts.push(some) };
};
const silent = { advance: () => {}, done: () => {} };

/** S3 dates what it holds by the second. */
const nextSecond = () => new Promise((wake) => setTimeout(wake, 1100));

const buckets: Record<string, Bucket> = {};
let server: Awaited<ReturnType<typeof openS3Server>>;

beforeAll(async () => {
  server = await openS3Server();
  buckets.S3 = openS3Bucket(server.settings);
  buckets["local R2"] = await openLocalBucket("wrangler.toml", path.join(newFolder(), "state"));
});
afterAll(async () => {
  for (const bucket of Object.values(buckets)) await bucket.close();
  await server.close();
});

describe.each(["S3", "local R2"])("to %s", (kind) => {
  test("what is not there is null, and a copy of it is none", async () => {
    const bucket = buckets[kind]!;
    expect([await bucket.size("none/such"), await bucket.get("none/such")]).toEqual([null, null]);
    expect(await bucket.copy("none/such", "none/either")).toBe(false);
    expect(await bucket.size("none/either")).toBeNull();
  });

  test("bytes, a file of none, a small one and one of several parts come back as they were, under any key", async () => {
    const bucket = buckets[kind]!;
    await bucket.put("any/key of ours, 100 %", Uint8Array.of(1, 2, 3));
    expect(await bucket.get("any/key of ours, 100 %")).toEqual(Uint8Array.of(1, 2, 3));
    for (const length of [0, 1, 1_000_000, 3 * 1024 * 1024, 17_000_001]) {
      const bytes = randomBytes(length);
      const { sum, advance } = counted();
      await bucket.putFile(`files/${length}`, listed(bytes), advance);
      expect(sum()).toBe(length);
      expect(await bucket.size(`files/${length}`)).toBe(length);
      expect(sha256((await bucket.get(`files/${length}`))!)).toBe(sha256(bytes));
      expect(await bucket.copy(`files/${length}`, `copies/${length}`)).toBe(true);
      expect(sha256((await bucket.get(`copies/${length}`))!)).toBe(sha256(bytes));
    }
  });

  test("a file that is not what is listed is refused by its name, and leaves no object", async () => {
    const bucket = buckets[kind]!;
    for (const length of [10, 1_000_000, 17_000_001]) {
      const file = listed(randomBytes(length));
      for (const [what, altered] of Object.entries({
        other: { ...file, sha256: sha256(Uint8Array.of()) },
        shorter: { ...file, bytes: length + 1 },
        longer: { ...file, bytes: length - 1 },
        missing: { ...file, path: `${file.path}.gone` },
      })) {
        const key = `refused/${what}-${length}`;
        await expect(bucket.putFile(key, altered, () => {})).rejects.toThrow(file.path);
        expect(await bucket.size(key)).toBeNull();
      }
    }
  });

  test("an index is there whole, its pointer last; the second time nothing is written but what names it", async () => {
    const bucket = watched(buckets[kind]!);
    const index = await builtIndex("whole");
    const { version, files } = readManifest(index);
    expect(await isPublished(index, bucket)).toBe(false);
    const { sum, advance } = counted();
    await publish(index, bucket, { ...silent, advance });
    expect(bucket.written).toEqual([
      ...Object.keys(files).map((file) => `upload ${file}`),
      `put ${FILES.manifest}`,
      `put ${path.posix.basename(pointerKey("whole"))}`,
    ]);
    expect(sum()).toBeCloseTo(Object.values(files).reduce((all, { bytes }) => all + bytes, 0) / 1e6, 9);
    for (const file of [...Object.keys(files), FILES.manifest]) {
      const there = await bucket.get(fileKey("whole", version, file));
      expect(Buffer.from(there!).equals(readFileSync(path.join(index, file)))).toBe(true);
    }
    expect(await isPublished(index, bucket)).toBe(true);
    bucket.written.length = 0;
    await publish(index, bucket, silent);
    expect(bucket.written.map((call) => call.split(" ")[0])).toEqual(["put", "put"]);
  });

  test("a version that shares files with the one before copies them within the bucket", async () => {
    const bucket = watched(buckets[kind]!);
    const index = await builtIndex("shared");
    const first = await publish(index, bucket, silent);
    // The same index under another title and version, with other texts of its examples.
    const examples = Buffer.concat([readFileSync(path.join(index, FILES.examples)), Buffer.of(0xc0)]);
    writeFileSync(path.join(index, FILES.examples), examples);
    const second: Manifest = {
      ...first,
      version: "0123456789abcdef",
      title: "Other texts",
      files: {
        ...first.files,
        [FILES.examples]: { ...first.files[FILES.examples]!, bytes: examples.length, sha256: sha256(examples) },
      },
    };
    writeFileSync(path.join(index, FILES.manifest), JSON.stringify(second));
    bucket.written.length = 0;
    await publish(index, bucket, silent);
    expect(bucket.written.slice(0, -2)).toEqual(
      Object.keys(second.files).map((file) => `${file === FILES.examples ? "upload" : "copy"} ${file}`),
    );
    for (const [file, { sha256: expected }] of Object.entries(second.files)) {
      expect(sha256((await bucket.get(fileKey("shared", second.version, file)))!)).toBe(expected);
    }
    expect(await isPublished(index, bucket)).toBe(true);
  });

  test("a listing has every object that begins so; what is deleted is gone", async () => {
    const bucket = buckets[kind]!;
    // More than a page has; S3rver cannot go on to a second one, for which it wants a cipher that Node no longer has.
    const keys = Array.from({ length: kind === "S3" ? 100 : 1005 }, (_, at) => `many/${String(at).padStart(4, "0")}`);
    await Promise.all(keys.map((key) => bucket.put(key, Uint8Array.of(1))));
    const listed = await bucket.list("many/");
    expect(listed.map(({ key }) => key).sort()).toEqual(keys);
    expect(listed[0]).toMatchObject({ bytes: 1, uploaded: expect.any(Date) });
    expect(Math.abs(listed[0]!.uploaded.getTime() - Date.now())).toBeLessThan(600_000);
    await bucket.delete("many/0000");
    await bucket.delete("many/0000");
    expect(await bucket.list("many/0000")).toEqual([]);
    expect(await bucket.list("none/such")).toEqual([]);
  });

  test("pruning leaves the published version, as many before it as it is told, and what is on its way", async () => {
    const bucket = buckets[kind]!;
    const index = await builtIndex("pruned");
    const manifest = readManifest(index);
    const states = async (keep: number) =>
      (await storedVersions("pruned", bucket, keep)).map(({ version, state }) => [version, state]);
    await expect(states(1)).rejects.toThrow(`${bucket.name}: expected a published index named "pruned"`);
    const versions = ["first", "second", "third"].map((_, at) => `${at}`.repeat(16));
    const publishAs = async (version: string) => {
      writeFileSync(path.join(index, FILES.manifest), JSON.stringify({ ...manifest, version }));
      await publish(index, bucket, silent);
      await nextSecond();
    };
    for (const version of versions) await publishAs(version);
    await bucket.put(fileKey("pruned", "f".repeat(16), FILES.rows), Uint8Array.of(1));
    await nextSecond();
    // Another index whose name begins alike.
    await bucket.put(fileKey("pruned-not", versions[0]!, FILES.rows), Uint8Array.of(1));
    const [first, second, third] = versions;
    expect(await states(1)).toEqual([
      ["f".repeat(16), "unpublished"],
      [third, "published"],
      [second, "kept"],
      [first, "unused"],
    ]);
    await deleteUnused(await storedVersions("pruned", bucket, 1), bucket);
    expect((await states(5)).map(([version]) => version)).toEqual(["f".repeat(16), third, second]);
    expect(await bucket.list(fileKey("pruned", first!, ""))).toEqual([]);
    // Going back to one that is still there makes it the last, and the others past.
    await publishAs(second!);
    expect(await states(0)).toEqual([
      [second, "published"],
      ["f".repeat(16), "unused"],
      [third, "unused"],
    ]);
    await deleteUnused(await storedVersions("pruned", bucket, 0), bucket);
    expect(await states(0)).toEqual([[second, "published"]]);
    for (const [file, { sha256: expected }] of Object.entries(manifest.files)) {
      expect(sha256((await bucket.get(fileKey("pruned", second!, file)))!)).toBe(expected);
    }
    expect(await bucket.size(fileKey("pruned-not", first!, FILES.rows))).toBe(1);
  });

  test("an upload that stops goes on where it was, and until then the version before is published", async () => {
    const bucket = watched(buckets[kind]!);
    const index = await builtIndex("stopped");
    const files = Object.keys(readManifest(index).files);
    const rows = path.join(index, FILES.rows);
    const bytes = readFileSync(rows);
    writeFileSync(
      rows,
      bytes.map((byte, at) => (at === 100 ? byte ^ 1 : byte)),
    );
    await expect(publish(index, bucket, silent)).rejects.toThrow(rows);
    expect(await isPublished(index, bucket)).toBe(false);
    writeFileSync(rows, bytes);
    bucket.written.length = 0;
    await publish(index, bucket, silent);
    const left = files.slice(files.indexOf(FILES.rows));
    expect(bucket.written.slice(0, -2)).toEqual(left.map((file) => `upload ${file}`));
    expect(await isPublished(index, bucket)).toBe(true);
  });
});
