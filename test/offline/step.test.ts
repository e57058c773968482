import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { beginStep, finishStep, holdingRun, reopenStep } from "../../offline/command/step.ts";

describe("a step's folder is its state", () => {
  let run: string;
  beforeEach(() => {
    run = mkdtempSync(join(tmpdir(), "run-"));
  });

  test("interrupted it keeps its files under <step>.part, finished under <step>", () => {
    const begun = beginStep(run, "collect", { seed: 1 }, false);
    expect(begun.folder).toBe(join(run, "collect.part"));
    writeFileSync(join(begun.folder, "shard"), "done so far");
    const resumed = beginStep(run, "collect", { seed: 1 }, false);
    expect(existsSync(join(resumed.folder, "shard"))).toBe(true);
    expect(finishStep(resumed).folder).toBe(join(run, "collect"));
    expect(beginStep(run, "collect", { seed: 1 }, false)).toMatchObject({
      finished: true,
      folder: join(run, "collect"),
    });
  });

  test("changed settings are refused with what changed, or replace what is there when asked to", () => {
    finishStep(beginStep(run, "collect", { seed: 1, r: 512 }, false));
    expect(() => beginStep(run, "collect", { seed: 2, r: 512 }, false)).toThrow(
      /collect was made with other settings \(seed: 1 → 2\)/,
    );
    expect(beginStep(run, "collect", { seed: 2, r: 512 }, true).finished).toBe(false);
    expect(existsSync(join(run, "collect"))).toBe(false);
  });

  test("settings may change as long as nothing was made with them", () => {
    beginStep(run, "collect", { device: "cuda" }, false);
    const begun = beginStep(run, "collect", { device: "cpu" }, false);
    writeFileSync(join(begun.folder, "shard"), "done so far");
    expect(() => beginStep(run, "collect", { device: "cuda" }, false)).toThrow(/device: cpu → cuda/);
  });

  test("a finished step counts however it was made: only what it is made of matters then", () => {
    const settings = { seed: 1, device: "webgpu" };
    const key = finishStep(beginStep(run, "collect", settings, false, ["device"])).key;
    expect(beginStep(run, "collect", { ...settings, device: "cpu" }, false, ["device"])).toMatchObject({
      finished: true,
      key,
    });
    expect(() => beginStep(run, "collect", { seed: 2, device: "cpu" }, false, ["device"])).toThrow(/seed: 1 → 2/);
  });

  test("a finished step is taken up again where only what is said of it changed", () => {
    const begun = beginStep(run, "index", { fit: "a", title: "Digits" }, true);
    writeFileSync(join(begun.folder, "rows"), "a week's work");
    finishStep(begun);
    expect(reopenStep(run, "index", { fit: "a", title: "Digits" }, ["title"])).toBeNull();
    expect(reopenStep(run, "index", { fit: "b", title: "Numbers" }, ["title"])).toBeNull();
    expect(existsSync(join(run, "index", "rows"))).toBe(true);
    const again = reopenStep(run, "index", { fit: "a", title: "Numbers" }, ["title"])!;
    expect(again).toMatchObject({ finished: false, folder: join(run, "index.part") });
    // Interrupted here, it would be made from the start.
    expect(existsSync(join(run, "index"))).toBe(false);
    const { folder } = finishStep(again);
    expect(existsSync(join(folder, "rows"))).toBe(true);
    expect(beginStep(run, "index", { fit: "a", title: "Numbers" }, true).finished).toBe(true);
  });

  test("a run folder serves one living process; a dead one's lock is taken over", async () => {
    await holdingRun(run, "build", false, async () => {
      await expect(holdingRun(run, "build", false, async () => {})).rejects.toThrow(`process ${process.pid} on`);
      await expect(holdingRun(run, "collect-2", false, async () => "a part of its own")).resolves.toBe(
        "a part of its own",
      );
    });
    writeFileSync(join(run, "build.lock"), JSON.stringify({ pid: 999999999, host: hostname() }));
    await expect(holdingRun(run, "build", false, async () => "built")).resolves.toBe("built");
    expect(existsSync(join(run, "build.lock"))).toBe(false);
  });
});
