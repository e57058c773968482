/** The build of the demonstration, from nothing: seconds and examples per second of each step, and peak memory. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { atMost, type Figure } from "./figure.ts";

interface DoneEvent {
  event: string;
  step: string;
  seconds: number;
  perSecond: number;
  unit: string;
  peakMegabytes: number;
}

/** Builds the demonstration's index in a folder of its own and reads what the build says of itself. */
export async function measure(): Promise<Figure[]> {
  const out = mkdtempSync(join(tmpdir(), "influence-bench-"));
  const started = performance.now();
  const build = spawn(
    process.execPath,
    [
      "offline/command/cli.ts",
      "build",
      "fixtures/mnist-cnn/influence.yaml",
      "--out",
      out,
      "--persist-to",
      join(out, "r2"),
      "--json",
    ],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  const events: DoneEvent[] = [];
  for await (const text of createInterface({ input: build.stderr })) {
    const event = JSON.parse(text);
    if (event.event === "done") events.push(event);
  }
  const seconds = (performance.now() - started) / 1000;
  rmSync(out, { recursive: true });
  const steps = events.flatMap(({ step, seconds: elapsed, perSecond, unit }) => [
    atMost(`build: ${step}`, elapsed, "s"),
    ...(unit === "examples" ? [atMost(`build: ${step}, rate`, perSecond, "examples/s")] : []),
  ]);
  return [
    ...steps,
    atMost("build: all steps, 60,000 digits, R = 512", seconds, "s"),
    atMost("build: peak memory", Math.max(...events.map((event) => event.peakMegabytes)), "MB", 1500),
  ];
}
