/** What a running job says: one bar a step on a terminal, plain lines elsewhere, JSON events for machines. */
import { readFileSync } from "node:fs";
import { MultiBar, type SingleBar } from "cli-progress";

export type Output = "terminal" | "lines" | "json";

export interface StepProgress {
  advance(count: number): void;
  /** Ends the step; `note` is one line of what came out. */
  done(note?: string): void;
}

export interface Progress {
  step(name: string, total: number, unit: string): StepProgress;
  /** A step that was found finished. */
  skipped(name: string, note: string): void;
  note(text: string): void;
}

const seconds = (from: number) => (performance.now() - from) / 1000;
const rate = (count: number, elapsed: number) => (elapsed > 0 ? count / elapsed : 0);

/**
 * Peak resident memory of this process, MB of 10⁶ bytes. On Linux the kernel's own mark of this address space: what getrusage
 * gives begins with the peak of the process that started this one.
 */
export function peakMegabytes(): number {
  const mark =
    process.platform === "linux" ? /VmHWM:\s*(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8")) : null;
  return ((mark ? Number(mark[1]) : process.resourceUsage().maxRSS) * 1024) / 1e6;
}

/** Progress on standard error, so that standard output holds only results. */
export function progressTo(output: Output): Progress {
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const event = (record: Record<string, unknown>) => say(JSON.stringify(record));
  return {
    note: (text) => (output === "json" ? event({ event: "note", text }) : say(text)),
    skipped: (name, note) =>
      output === "json" ? event({ event: "skipped", step: name, note }) : say(`${name.padEnd(8)} ${note}`),
    step: (name, total, unit) => {
      const started = performance.now();
      let count = 0;
      let lastLine = started;
      let bars: MultiBar | undefined;
      let bar: SingleBar | undefined;
      if (output === "terminal") {
        bars = new MultiBar({
          format: `${name.padEnd(8)} {bar} {percentage}% | {value}/{total} ${unit} | {speed}/s | {eta_formatted} left | peak {memory} MB`,
          stream: process.stderr,
          hideCursor: true,
          clearOnComplete: true,
          etaBuffer: 50,
        });
        bar = bars.create(total, 0, { speed: "–", memory: "–" });
      }
      const figures = () => {
        const elapsed = seconds(started);
        const speed = rate(count, elapsed);
        return { elapsed, speed, left: speed > 0 ? (total - count) / speed : 0 };
      };
      let lastUpdate = 0;
      return {
        advance: (more) => {
          count += more;
          const { speed, left } = figures();
          if (bar && performance.now() - lastUpdate > 100) {
            lastUpdate = performance.now();
            bar.update(Math.round(count), { speed: Math.round(speed), memory: Math.round(peakMegabytes()) });
          }
          if (output !== "terminal" && performance.now() - lastLine > 5000) {
            lastLine = performance.now();
            if (output === "json")
              event({ event: "progress", step: name, count, total, unit, perSecond: speed, secondsLeft: left });
            else
              say(
                `${name.padEnd(8)} ${Math.round(count)}/${total} ${unit}, ${Math.round(speed)}/s, ${Math.ceil(left)} s left, peak ${Math.round(peakMegabytes())} MB`,
              );
          }
        },
        done: (note) => {
          const { elapsed, speed } = figures();
          const memory = Math.round(peakMegabytes());
          bar?.update(Math.round(count), { speed: Math.round(speed), memory });
          bars?.stop();
          if (output === "json") {
            event({
              event: "done",
              step: name,
              count,
              unit,
              seconds: elapsed,
              perSecond: speed,
              peakMegabytes: memory,
              note,
            });
          } else {
            const pace = count > 1 ? `, ${Math.round(count)} ${unit} at ${Math.round(speed)}/s` : "";
            say(`${name.padEnd(8)} ${elapsed.toFixed(1)} s${pace}, peak ${memory} MB${note ? `: ${note}` : ""}`);
          }
        },
      };
    },
  };
}
