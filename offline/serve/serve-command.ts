/** `influence serve` and `influence plan`. */
import { once } from "node:events";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { Manifest } from "../../src/core/manifest.ts";
import { byteCount } from "../command/arguments.ts";
import { choose, chosenLine, plan, planLines, referenceLines } from "../index/plan.ts";
import { readManifest } from "../store/publish.ts";

interface ServeOptions {
  host: string;
  port: number;
  memory: number;
  approximate?: boolean;
  json?: boolean;
}

interface PlanOptions {
  n?: number;
  memory: number;
  r?: number;
  json?: boolean;
}

function integerIn(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected an integer from ${least} to ${most}, got ${text}.`);
  };
}

/** Adds both to the program. */
export function addServe(program: Command): void {
  program
    .command("serve")
    .argument("<folders...>", "folders of indexes, such as runs/mnist/index, or of runs, such as runs")
    .description("the API and the page on this machine, over indexes where they were built")
    .option("--port <port>", "0 for any that is free", integerIn(0, 65535), 8788)
    .option("--host <address>", "the address to listen on; 0.0.0.0 for every one of this machine", "127.0.0.1")
    .option("--memory <bytes>", "what all open indexes together may hold, such as 500MB", byteCount, 4e9)
    .option(
      "--approximate",
      "answer from hnswlib's graph, its measured recall in each answer; built first where it is not there",
    )
    .option("--json", "address and indexes as one line of JSON")
    .action(async (given: string[], { approximate, json, ...settings }: ServeOptions) => {
      // Imported here: other commands need not wait for the server's code.
      const { serve } = await import("./serve.ts");
      const report = (line: string) => process.stderr.write(`${line}\n`);
      const { address, folders, close } = await serve(
        given.map((folder) => resolve(folder)),
        { ...settings, approximate: approximate ? { report } : undefined },
      );
      const indexes = [...folders.keys()];
      console.log(json ? JSON.stringify({ address, indexes }) : serving(address, indexes));
      await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
      await close();
    });

  program
    .command("plan")
    .argument("[run]", "a run, such as runs/mnist: costs are measured on its index's vectors, and n is its own")
    .description("what fits in so much memory: which R, bits and planes, and what a query then costs")
    .option("--n <rows>", "training examples", integerIn(1, 2 ** 31 - 1))
    .option("--memory <bytes>", "what the index may hold; an isolate has 128 MB in all", byteCount, 80e6)
    .option("--r <R>", "kept coordinates of all layers together: what is held of that index", integerIn(1, 131_072))
    .option("--json", "the plan as JSON")
    .action(async (folder: string | undefined, { n: given, memory, r, json }: PlanOptions) => {
      const index = folder === undefined ? null : await onlyIndex(resolve(folder));
      const n = given ?? index?.manifest.n;
      if (n === undefined) throw new Error("plan: expected --n or a run's folder, got neither; name one");
      const chosen = r === undefined ? undefined : choose(n, r, memory);
      const { measurePlan, costLines } = await import("../index/measure-plan.ts");
      const costs = index && (await measurePlan(index.folder, index.manifest, n, memory));
      if (json) {
        console.log(JSON.stringify({ n, memory, largest: plan(n, memory), chosen, costs }));
        return;
      }
      const measured = costs
        ? [`Measured on ${index?.manifest.name}, top 10 of both ends, medians:`, ...costLines(costs)]
        : referenceLines();
      console.log([...planLines(n, memory), ...(chosen ? [chosenLine(chosen)] : []), ...measured, BESIDE].join("\n"));
    });
}

/** The index of a folder or of the run in it. Throws an Error where there is none, or more than one. */
async function onlyIndex(folder: string): Promise<{ folder: string; manifest: Manifest }> {
  const { folderBucket } = await import("../store/folder-bucket.ts");
  const [found, ...others] = (await folderBucket([folder])).folders.values();
  if (found === undefined || others.length > 0) {
    throw new Error(`${folder}: expected one index, got ${others.length + 1}; name the run of one of them`);
  }
  return { folder: found, manifest: readManifest(found) };
}

const BESIDE = "The examples' ids and columns take memory beside this: four times their MessagePack.";

function serving(address: string, indexes: readonly string[]): string {
  return `${indexes.join(", ")} at ${address}/

  curl -s ${address}/v1/indexes/${indexes[0]}/queries?limit=3

Ctrl-C stops.`;
}
