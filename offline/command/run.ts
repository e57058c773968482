/** A build under way: its settings, its folder, and how it tells of itself. */
import type { Worker } from "../gradients/collect.ts";
import type { Device } from "../gradients/session.ts";
import type { Config } from "./config.ts";
import type { Progress } from "./progress.ts";

export interface Run {
  config: Config;
  /** runs/<name> */
  folder: string;
  /** Make gradients anew whose settings changed, rather than refuse. */
  replace: boolean;
  progress: Progress;
  device: Device;
  /** Threads of the CPU; default: one a core. */
  threads?: number | undefined;
  /** Bytes that collecting may take: chooses the batch in place of the configuration. */
  memory?: number | undefined;
  onNan: "fail" | "skip";
  /** This process's part of collecting. */
  worker: Worker;
}

/** A run by one process on the CPU. */
export const ALONE = { device: "cpu", onNan: "fail", replace: false, worker: { index: 0, of: 1 } } as const;
