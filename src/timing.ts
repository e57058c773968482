/**
 * Server-Timing. On Cloudflare a Worker's clock stands still while it computes and moves on only with I/O; in local workerd it
 * moves, in steps of 1 ms (measured). A phase during which it did not move is named without a duration, because 0 would claim
 * what was not measured; what it took then counts in the next phase that ends with I/O.
 */
export interface Stopwatch {
  /** Ends a phase, which began where the one before ended. */
  lap(phase: string): void;
  /** A part of the last phase that was measured elsewhere, in milliseconds. */
  part(name: string, milliseconds: number): void;
  /** The headers that say so far. */
  headers(): Record<string, string>;
}

/** None unless the request's `timing` asks for it: the clock and the header cost a tenth of an answer. */
export function stopwatch(timing: "true" | "false" | undefined): Stopwatch | undefined {
  if (timing !== "true") return undefined;
  const entries: string[] = [];
  const start = performance.now();
  let last = start;
  const add = (name: string, milliseconds: number) => {
    entries.push(milliseconds > 0 ? `${name};dur=${milliseconds}` : name);
  };
  return {
    lap(phase) {
      const now = performance.now();
      add(phase, now - last);
      last = now;
    },
    part: add,
    headers() {
      add("total", performance.now() - start);
      return { "Server-Timing": entries.join(", ") };
    },
  };
}
