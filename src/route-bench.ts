/** The API beside an empty route and one that only reads and writes, for `npm run bench -- route`: its bucket lies behind plain HTTP, at the address in ORIGIN. */
import { Hono } from "hono";
import { api } from "./api.ts";
import type { Bucket } from "./bucket.ts";
import { workerKernel } from "./kernel.ts";

interface Settings {
  ORIGIN: string;
  RESIDENT_BYTES: string;
}

const kernel = workerKernel();
const headers = new Headers({ "Content-Type": "application/json" });
/** As long as an answer of twenty digits. */
const answered = JSON.stringify({ helpful: "-".repeat(4570) });

const beside = new Hono()
  .get("/empty", (c) => c.json({}))
  .post("/echo", async (c) => {
    await c.req.raw.arrayBuffer();
    return new Response(answered, { headers });
  });

/** Objects that `origin` answers under their keys. They never change. */
function httpBucket(origin: string): Bucket {
  return {
    async get(key, options) {
      const range = options?.range;
      if (options?.onlyIf?.etagDoesNotMatch === "the one there is") return { etag: "the one there is" };
      const headers = range && { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
      const response = await fetch(`${origin}/${key}`, headers ? { headers } : {});
      if (!response.ok || response.body === null) return null;
      return {
        etag: "the one there is",
        body: response.body,
        text: () => response.text(),
        bytes: async () => new Uint8Array(await response.arrayBuffer()),
      };
    },
    list: async () => ({ delimitedPrefixes: [], truncated: false }),
  };
}

export default {
  fetch(request, { ORIGIN, RESIDENT_BYTES }, context) {
    const { pathname } = new URL(request.url);
    if (pathname === "/empty" || pathname === "/echo") return beside.fetch(request);
    return api.fetch(request, { BUCKET: httpBucket(ORIGIN), RESIDENT_BYTES, kernel }, context);
  },
} satisfies ExportedHandler<Settings>;
