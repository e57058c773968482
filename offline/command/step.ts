/**
 * The file system is the state of a build: `<step>/` is finished, `<step>.part/` was interrupted, neither is not begun. Each
 * holds step.json: the settings that determine its contents, so that a restart knows whether what is there still counts. A finished
 * one also holds sums.json: the sha256 of its small files, the .json ones and the mask. Large files carry or are named with their own.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { FILES } from "../../src/core/manifest.ts";

export type Settings = Record<string, string | number | boolean | null>;

export interface Step {
  /** Where this step's files lie: `<step>/` when finished, `<step>.part/` while it runs. */
  folder: string;
  finished: boolean;
  /** sha256 of the settings. */
  key: string;
}

const SUMS = "sums.json";
const hasSum = (file: string): boolean => (file.endsWith(".json") || file === FILES.mask) && file !== SUMS;

function sumsOf(folder: string): Record<string, string> {
  const files = readdirSync(folder).filter(hasSum);
  return Object.fromEntries(
    files.sort().map((file) => [
      file,
      createHash("sha256")
        .update(readFileSync(join(folder, file)))
        .digest("hex"),
    ]),
  );
}

/** Throws an Error that names the file when a small file of a finished step was changed since. */
function checkSums(folder: string): void {
  const path = join(folder, SUMS);
  if (!existsSync(path)) return;
  const advice = `delete ${folder} and run the same command again`;
  let expected: unknown;
  try {
    expected = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    throw new Error(`${path}: expected JSON, got other bytes: it was changed; ${advice}`);
  }
  const got = new Map(Object.entries(sumsOf(folder)));
  for (const [file, sha256] of Object.entries(expected ?? {})) {
    if (sha256 !== got.get(file)) {
      throw new Error(
        `${join(folder, file)}: expected sha256 ${sha256}, got ${got.get(file) ?? "no file"}: it was changed; ${advice}`,
      );
    }
  }
}

function keyOf(settings: Settings): string {
  return createHash("sha256")
    .update(JSON.stringify(Object.entries(settings).sort()))
    .digest("hex");
}

function recorded(folder: string): Settings | null {
  const path = join(folder, "step.json");
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : null;
}

/** A digest is long and says nothing: its first digits tell two apart. */
function show(value: Settings[string] | undefined): string {
  const text = String(value ?? "none");
  return /^[0-9a-f]{64}$/.test(text) ? text.slice(0, 12) : text;
}

function changedNames(before: Settings, after: Settings): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => before[name] !== after[name]);
}

/** "seed: 0 → 1; r: 512 → 1024" */
function difference(before: Settings, after: Settings): string {
  return changedNames(before, after)
    .map((name) => `${name}: ${show(before[name])} → ${show(after[name])}`)
    .join("; ");
}

/**
 * Begins or resumes a step. What is there from other settings is replaced when `replace`, and otherwise refused with what
 * changed: hours of gradients are not thrown away by a typing error. What holds nothing yet is replaced as well. `means`: settings that say how, not what; a finished step
 * counts whatever they were.
 */
export function beginStep(
  run: string,
  name: string,
  settings: Settings,
  replace: boolean,
  means: readonly string[] = [],
): Step {
  const key = keyOf(settings);
  const finished = join(run, name);
  const part = `${finished}.part`;
  if (existsSync(finished)) checkSums(finished);
  for (const folder of [finished, part]) {
    const before = recorded(folder);
    if (before === null) {
      if (existsSync(folder)) rmSync(folder, { recursive: true });
      continue;
    }
    if (keyOf(before) === key) return { folder, finished: folder === finished, key };
    const changed = changedNames(before, settings);
    if (folder === finished && !replace && changed.every((changedName) => means.includes(changedName))) {
      return { folder, finished: true, key: keyOf(before) };
    }
    const nothingYet = folder === part && readdirSync(folder).every((file) => file === "step.json");
    if (!replace && !nothingYet) {
      throw new Error(
        `${folder} was made with other settings (${difference(before, settings)}); pass --replace to make it anew, or --out for another folder`,
      );
    }
    rmSync(folder, { recursive: true });
  }
  // Made aside and renamed, so that workers that begin together never see the folder without its settings.
  const aside = `${part}-${process.pid}`;
  mkdirSync(aside, { recursive: true });
  writeFileSync(join(aside, "step.json"), `${JSON.stringify(settings, null, 2)}\n`);
  try {
    renameSync(aside, part);
  } catch (error) {
    rmSync(aside, { recursive: true });
    if (!existsSync(join(part, "step.json"))) throw error;
  }
  return { folder: part, finished: false, key };
}

/**
 * Takes a finished step up again, its files in place, where its settings differ from `settings` in those `names` only: what they say
 * may be said anew without making the rest again. Null where there is none such. Interrupted, the step is made from nothing.
 */
export function reopenStep(run: string, name: string, settings: Settings, names: readonly string[]): Step | null {
  const finished = join(run, name);
  const part = `${finished}.part`;
  const before = recorded(finished);
  if (before === null || existsSync(part)) return null;
  const changed = changedNames(before, settings);
  if (changed.length === 0 || changed.some((one) => !names.includes(one))) return null;
  checkSums(finished);
  renameSync(finished, part);
  rmSync(join(part, SUMS), { force: true });
  writeFileSync(join(part, "step.json"), `${JSON.stringify(settings, null, 2)}\n`);
  return { folder: part, finished: false, key: keyOf(settings) };
}

/** Gives the finished step its final name: from now on it counts. Another worker may have done so first. */
export function finishStep(step: Step): Step {
  if (step.finished) return step;
  const folder = step.folder.replace(/\.part$/, "");
  try {
    writeFileSync(join(step.folder, SUMS), `${JSON.stringify(sumsOf(step.folder), null, 2)}\n`);
    renameSync(step.folder, folder);
  } catch (error) {
    if (!existsSync(join(folder, "step.json"))) throw error;
  }
  return { folder, finished: true, key: step.key };
}

interface Holder {
  pid: number;
  host: string;
}

/** A holder on another machine cannot be asked; it counts as alive. */
function isAlive({ pid, host }: Holder): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function holderOf(lock: string): Holder | null {
  try {
    const { pid, host } = JSON.parse(readFileSync(lock, "utf8"));
    return { pid: Number(pid), host: String(host) };
  } catch {
    return null;
  }
}

/**
 * Holds a part of a run folder for this process while `work` runs; a dead process's hold is taken over. When another living
 * process holds it: waits (`wait`), or throws an Error that names it.
 */
export async function holdingRun<T>(run: string, part: string, wait: boolean, work: () => Promise<T>): Promise<T> {
  mkdirSync(run, { recursive: true });
  const lock = join(run, `${part}.lock`);
  for (;;) {
    try {
      writeFileSync(lock, JSON.stringify({ pid: process.pid, host: hostname() }), { flag: "wx" });
      break;
    } catch (error) {
      if (!existsSync(lock)) throw error;
      const holder = holderOf(lock);
      if (holder && !isAlive(holder)) unlinkSync(lock);
      else if (!wait) {
        const who = holder ? `process ${holder.pid} on ${holder.host}` : "another process";
        throw new Error(
          `${run}: ${who} is building here; wait for it, choose another folder with --out, or delete ${lock} if it is gone`,
        );
      } else await new Promise((wake) => setTimeout(wake, 200));
    }
  }
  try {
    return await work();
  } finally {
    unlinkSync(lock);
  }
}
