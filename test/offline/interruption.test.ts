import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { random } from "../../src/core/random.ts";
import { configFile, influence, smallConfig } from "./demonstration.ts";

const config = { ...smallConfig(1500), shard: 150, batch: 50 };
/** Kills in a run of the test; the full form, twenty, is asked for by KILLS=20. */
const kills = Number(process.env.KILLS ?? 3);

const build = ({ path, folder, run }: ReturnType<typeof configFile>) => [
  path,
  "--out",
  run,
  "--persist-to",
  join(folder, "r2"),
];

/** sha256 of every file of the index. */
function indexDigests(run: string): Record<string, string> {
  const index = join(run, "index");
  const files = readdirSync(index).sort();
  return Object.fromEntries(
    files.map((file) => [
      file,
      createHash("sha256")
        .update(readFileSync(join(index, file)))
        .digest("hex"),
    ]),
  );
}

/** Starts a build and kills it with SIGKILL after a while. Returns whether it was still running. */
function killAfter(milliseconds: number, ...args: string[]): Promise<boolean> {
  return new Promise((settle) => {
    const build = spawn(process.execPath, [resolve("offline/command/cli.ts"), ...args], { stdio: "ignore" });
    const timer = setTimeout(() => build.kill("SIGKILL"), milliseconds);
    build.once("exit", (_, signal) => {
      clearTimeout(timer);
      settle(signal === "SIGKILL");
    });
  });
}

describe("an index is the same bytes", () => {
  const undisturbed = configFile(config);

  test(`after ${kills} kills at random moments, restarted each time`, { timeout: 120_000 * kills }, async () => {
    const started = performance.now();
    expect(influence("build", ...build(undisturbed)).status).toBe(0);
    const whole = performance.now() - started;
    const disturbed = configFile(config);
    const { run } = disturbed;
    const { unit } = random(Date.now(), "moments");
    for (let killed = 0; killed < kills; ) {
      if (await killAfter(200 + unit() * whole, "build", ...build(disturbed))) killed++;
      // Quicker than its kill: one of its steps is undone, so that there is work left to disturb.
      else
        rmSync(join(run, ["compile", "collect", "fit", "index"][Math.floor(unit() * 4)]!), {
          recursive: true,
          force: true,
        });
    }
    const last = influence("build", ...build(disturbed));
    expect(last.status, last.stderr).toBe(0);
    expect(influence("build", ...build(disturbed)).stderr).toContain("already in local R2");
    expect(indexDigests(run)).toEqual(indexDigests(undisturbed.run));
  });

  test("by three workers, in any order", () => {
    const { path, run } = configFile(config);
    const part = (i: number) => influence("collect", path, "--out", run, "--shard", `${i}/3`);
    expect(part(2).status).toBe(0);
    expect(part(3).status).toBe(0);
    expect(part(1).status).toBe(0);
    expect(influence("index", path, "--out", run).status).toBe(0);
    if (!existsSync(join(undisturbed.run, "index"))) influence("index", undisturbed.path, "--out", undisturbed.run);
    expect(indexDigests(run)).toEqual(indexDigests(undisturbed.run));
  });
});
