/** Which bucket a command works on. */
import { type Command, Option } from "commander";
import type { Bucket } from "./bucket.ts";
import { openLocalBucket } from "./local-bucket.ts";

export interface BucketOptions {
  to?: string;
  persistTo?: string;
}

/** Adds --to and --persist-to. */
export function withBucketOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--to <bucket>", "local: the R2 that `wrangler dev` serves from; r2: Cloudflare's")
        .choices(["local", "r2"])
        .default("local"),
    )
    .addOption(
      new Option(
        "--persist-to <folder>",
        "where local R2 keeps its state (default: .wrangler/state, as `wrangler dev`)",
      ),
    );
}

/** Does `work` on the bucket of the options, and closes it. */
export async function onBucket<Result>(
  { to = "local", persistTo }: BucketOptions,
  work: (bucket: Bucket) => Promise<Result>,
): Promise<Result> {
  const bucket = to === "r2" ? await openR2() : await openLocalBucket("wrangler.toml", persistTo);
  try {
    return await work(bucket);
  } finally {
    await bucket.close();
  }
}

async function openR2(): Promise<Bucket> {
  // Imported here: its client takes a while to load, which other commands need not wait for.
  const { openS3Bucket, s3SettingsFromEnvironment } = await import("./s3-bucket.ts");
  return openS3Bucket(s3SettingsFromEnvironment(process.env));
}
