/**
 * Server-Timing. On Cloudflare a Worker's clock stands still while it computes and moves on only with I/O, to the millisecond
 * (measured in local workerd: it does move, in steps of 1 ms). So a phase ends at an I/O event, and a duration is true to a
 * millisecond: a search that reads no rows is followed by a timer of zero length, which lets the clock catch up. The parts of a
 * phase that do no I/O of their own (scan, refine) read 0 there; their phase (search) does not.
 */
export interface Stopwatch {
  /** Ends a phase, which began where the one before ended. */
  lap(phase: string): void;
  /** A part of the last phase that was measured elsewhere, in milliseconds. */
  part(name: string, milliseconds: number): void;
  /** Lets a clock that stood still since the last lap catch up; takes about 0.1 ms. */
  settle(): Promise<void>;
  /** The header's value so far. */
  header(): string;
}

export function stopwatch(): Stopwatch {
  const laps: string[] = [];
  const start = performance.now();
  let last = start;
  return {
    lap(phase) {
      const now = performance.now();
      laps.push(`${phase};dur=${now - last}`);
      last = now;
    },
    part(name, milliseconds) {
      laps.push(`${name};dur=${milliseconds}`);
    },
    async settle() {
      if (performance.now() === last) await scheduler.wait(0);
    },
    header: () => [...laps, `total;dur=${performance.now() - start}`].join(", "),
  };
}
