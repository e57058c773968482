/** The search's own Worker in workerd, without the API around it: for the benchmarks of its compute. */
import { unstable_startWorker } from "wrangler";

/** What an isolate may hold, bytes: RESIDENT_BYTES of wrangler.toml. */
export const RESIDENT_BYTES = 80_000_000;

/** src/search-bench.ts in workerd on a free port; the caller disposes of it. */
export const startSearchWorker = (): ReturnType<typeof unstable_startWorker> =>
  unstable_startWorker({
    name: "search-bench",
    entrypoint: "src/search-bench.ts",
    compatibilityDate: "2026-10-01",
    dev: { server: { port: 0 }, logLevel: "error" },
  });
