/**
 * The peak resident memory of a process that loads a graph and runs it, in a process of its own because a peak never falls: run
 * with arguments (subject, graph's file, outputs), this file prints it in megabytes.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import * as ort from "onnxruntime-node";
import { peakMegabytes } from "../command/progress.ts";
import { subjects } from "./subjects.ts";

/** Megabytes at the highest, after three runs of the subject's batch. */
export async function peakOf(subject: string, graph: string, outputs: readonly string[]): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [import.meta.filename, subject, graph, ...outputs]);
  return Number(stdout);
}

async function measure(name: string, graph: string, outputs: string[], threads: number): Promise<number> {
  const subject = subjects().find((candidate) => candidate.name === name);
  if (!subject) throw new Error(`bench: no such subject: ${name}`);
  const session = await ort.InferenceSession.create(graph, { intraOpNumThreads: threads });
  const feeds = { ...subject.feeds, target: subject.target };
  for (let run = 0; run < 3; run++) await session.run(feeds, outputs);
  return peakMegabytes();
}

if (process.argv[1] === import.meta.filename) {
  const [subject = "", graph = "", ...outputs] = process.argv.slice(2);
  console.log(await measure(subject, graph, outputs, 2));
}
