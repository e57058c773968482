/** Cloudflare's R2 through its S3 interface, or anything else that speaks S3. */
import { Readable } from "node:stream";
import {
  CopyObjectCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  paginateListObjectsV2,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { type Bucket, type ListedObject, pathOf } from "./bucket.ts";
import { sendChecked } from "./checked-file.ts";

/** A larger file goes up in parts, four at once: at least of this size, and 10,000 at most. Both are within what R2 and S3 take. */
const PART_BYTES = 16 * 1024 * 1024;
const MOST_PARTS = 10_000;
/** One request copies no more. */
const MOST_COPIED = 5e9;
/**
 * Of a request that fails for want of a network or of a server, each after a longer wait: a bucket that has never answered is soon
 * given up, one that has is waited for through an outage of about a minute.
 */
const FIRST_ATTEMPTS = 4;
const LATER_ATTEMPTS = 16;

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
  const endpoint = read(wanted.endpoint);
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol)) {
    throw new Error(
      `R2_ENDPOINT: expected an address such as https://<account>.r2.cloudflarestorage.com, got "${endpoint}"; set it and run again`,
    );
  }
  return {
    endpoint,
    bucket: read(wanted.bucket),
    accessKeyId: read(wanted.accessKeyId),
    secretAccessKey: read(wanted.secretAccessKey),
  };
}

/** What to do about an error, by its code. */
const ADVICE: Record<string, string> = {
  NoSuchBucket: "make it with `npx wrangler r2 bucket create`, or set R2_BUCKET",
  InvalidAccessKeyId: "set R2_ACCESS_KEY_ID to a token of this account",
  SignatureDoesNotMatch: "set R2_SECRET_ACCESS_KEY to the secret of R2_ACCESS_KEY_ID",
  AccessDenied: "give the token permission to read and write objects of this bucket",
  RequestTimeTooSkewed: "set this machine's clock",
  ENOTFOUND: "set R2_ENDPOINT to https://<account>.r2.cloudflarestorage.com",
};

/** How S3 says that there is no such object: to a HEAD, and to a GET. */
const MISSING = new Set(["NotFound", "NoSuchKey"]);

export function openS3Bucket(settings: S3Settings): Bucket {
  const { endpoint, bucket, accessKeyId, secretAccessKey } = settings;
  const clientOf = (maxAttempts: number) =>
    new S3Client({
      endpoint,
      region: "auto",
      credentials: { accessKeyId, secretAccessKey },
      forcePathStyle: true,
      maxAttempts,
      // R2 checks the sha256 that a body is signed with; the other checksums are not everywhere known.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
    });
  const [first, later] = [clientOf(FIRST_ATTEMPTS), clientOf(LATER_ATTEMPTS)];
  let answered = false;
  const name = `${endpoint.replace(/\/$/, "")}/${bucket}`;
  const ask = async <Answer>(key: string, request: (client: S3Client) => Promise<Answer>): Promise<Answer> => {
    try {
      const answer = await request(answered ? later : first);
      answered = true;
      return answer;
    } catch (error) {
      answered ||= error instanceof S3ServiceException;
      const { code, reason } = explained(error);
      const advice = ADVICE[code] ?? "run it again, what is there stays";
      throw new Error(`${name}, ${key}: expected to be served, got ${code} (${reason}); ${advice}`, { cause: error });
    }
  };
  /** Null where there is no such object. */
  const find = <Answer>(key: string, request: (client: S3Client) => Promise<Answer>): Promise<Answer | null> =>
    ask(key, request).catch((error: Error) => {
      if (error.cause instanceof S3ServiceException && MISSING.has(error.cause.name)) return null;
      throw error;
    });
  return {
    name,
    size: async (key) =>
      (await find(key, (client) => client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }))))?.ContentLength ??
      null,
    get: async (key) =>
      (await find(key, async (client) => {
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
        return Body?.transformToByteArray();
      })) ?? null,
    put: async (key, bytes) => {
      await ask(key, (client) => client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: bytes })));
    },
    putFile: async (key, file, advance) => {
      const partSize = Math.max(PART_BYTES, Math.ceil(file.bytes / MOST_PARTS));
      await sendChecked(file, advance, (bytes) => {
        const params = { Bucket: bucket, Key: key, Body: Readable.from(bytes, { objectMode: false }) };
        return ask(key, (client) => new Upload({ client, params, partSize }).done());
      });
    },
    copy: async (from, to) => {
      const size = await find(from, (client) => client.send(new HeadObjectCommand({ Bucket: bucket, Key: from })));
      if (size === null || (size.ContentLength ?? Number.POSITIVE_INFINITY) > MOST_COPIED) return false;
      const CopySource = `${bucket}/${pathOf(from)}`;
      await ask(to, (client) => client.send(new CopyObjectCommand({ Bucket: bucket, Key: to, CopySource })));
      return true;
    },
    list: async (prefix) => {
      const objects: ListedObject[] = [];
      await ask(prefix, async (client) => {
        for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: prefix })) {
          for (const { Key = "", Size = 0, LastModified = new Date(0) } of Contents) {
            objects.push({ key: Key, bytes: Size, uploaded: LastModified });
          }
        }
      });
      return objects;
    },
    delete: async (key) => {
      await ask(key, (client) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key })));
    },
    close: async () => {
      first.destroy();
      later.destroy();
    },
  };
}

/** S3's own code where the answer had one, else what kind of error it is, such as NotFound, or that of the network; and its words. */
function explained(error: unknown): { code: string; reason: string } {
  if (!(error instanceof Error)) return { code: "Error", reason: String(error) };
  const code = "code" in error && !(error instanceof S3ServiceException) ? String(error.code) : error.name;
  return { code, reason: error.message.split("\n", 1)[0] ?? "" };
}
