/** `influence prune`: what a bucket holds of an index, and what of it nobody asks for any more. */
import type { Command } from "commander";
import { wholeNumber } from "../command/arguments.ts";
import { type BucketOptions, onBucket, withBucketOptions } from "./open-bucket.ts";
import { deleteUnused, type StoredVersion, storedVersions, type VersionState } from "./versions.ts";

interface PruneOptions extends BucketOptions {
  keep: number;
  dryRun?: boolean;
  json?: boolean;
}

export function addPrune(program: Command): void {
  withBucketOptions(
    program
      .command("prune")
      .argument("<name>", "the index's name, for example mnist")
      .description("delete the versions of an index that are no longer published; not while one is being published")
      .option("--keep <n>", "versions before the published one that stay", wholeNumber, 1)
      .option("--dry-run", "only say what would be deleted")
      .option("--json", "the result as JSON"),
  ).action(async (name: string, options: PruneOptions) => {
    await onBucket(options, async (bucket) => {
      const versions = await storedVersions(name, bucket, options.keep);
      if (!options.dryRun) await deleteUnused(versions, bucket);
      if (options.json) {
        const said = versions.map(({ keys: _, state, ...version }) => ({
          ...version,
          state,
          deleted: isDeleted(state, options),
        }));
        console.log(JSON.stringify({ name, bucket: bucket.name, versions: said }));
      } else {
        console.log(`${name} in ${bucket.name}:\n${versions.map((version) => line(version, options)).join("\n")}`);
      }
    });
  });
}

const isDeleted = (state: VersionState, { dryRun }: PruneOptions) => state === "unused" && !dryRun;

const SAID: Record<VersionState, string> = {
  published: "published",
  unpublished: "not published yet, stays",
  kept: "before it, stays",
  unused: "would be deleted",
};

function line({ version, state, bytes, uploaded }: StoredVersion, options: PruneOptions): string {
  const megabytes = `${(bytes / 1e6).toFixed(1)} MB`;
  const said = isDeleted(state, options) ? "deleted" : SAID[state];
  return `  ${version}  ${uploaded.toISOString().slice(0, 16).replace("T", " ")}  ${megabytes.padStart(11)}  ${said}`;
}
