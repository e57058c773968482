/** The R2 bucket that `wrangler dev` keeps on this machine. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { type Bucket, pathOf } from "./bucket.ts";
import { sendChecked } from "./checked-file.ts";

const listing = z.array(z.object({ key: z.string(), bytes: z.number(), uploaded: z.coerce.date() }));

const WORKER = fileURLToPath(new URL("local-bucket-worker.ts", import.meta.url));

/**
 * The bucket bound as BUCKET in `wranglerConfig`; `persistPath`: as wrangler's --persist-to. A Worker of its own writes it, at 30 to
 * 40 MB/s; through getPlatformProxy it would be 15 (measured).
 */
export async function openLocalBucket(wranglerConfig: string, persistPath?: string): Promise<Bucket> {
  // Without the network, or behind a wall, wrangler would wait for what no index needs.
  process.env.CLOUDFLARE_CF_FETCH_ENABLED ??= "false";
  // Imported here: wrangler takes a second to load, which steps that do not publish need not wait for.
  const { unstable_readConfig, unstable_startWorker } = await import("wrangler");
  const { compatibility_date, r2_buckets } = unstable_readConfig({ config: wranglerConfig });
  const bound = r2_buckets.find(({ binding }: { binding: string }) => binding === "BUCKET");
  if (bound === undefined) {
    throw new Error(`${wranglerConfig}: expected an R2 bucket bound as BUCKET, got none; add it under r2_buckets`);
  }
  // A configuration of its own, or the Worker would get the page's assets and build as well.
  const folder = mkdtempSync(join(tmpdir(), "influence-"));
  const config = join(folder, "wrangler.json");
  writeFileSync(
    config,
    JSON.stringify({ name: "local-bucket", main: WORKER, compatibility_date, r2_buckets: [bound] }),
  );
  const worker = await unstable_startWorker({
    config,
    dev: {
      persist: resolve(persistPath ?? join(dirname(wranglerConfig), ".wrangler", "state")),
      server: { hostname: "127.0.0.1", port: 0 },
      inspector: false,
      watch: false,
      // What goes wrong is said by the answer.
      logLevel: "none",
    },
  });
  const address = await worker.url;
  rmSync(folder, { recursive: true });
  const url = (key: string, search = "") => new URL(`/${pathOf(key)}${search}`, address);
  /** Null where there is no such object. */
  const ask = async (asked: URL, init?: RequestInit): Promise<Response | null> => {
    const response = await fetch(asked, init).catch(({ message, cause }: Error) => {
      return new Response(cause instanceof Error ? cause.message : message, { status: 503 });
    });
    if (response.status === 404) return null;
    if (response.ok) return response;
    const key = asked.pathname.slice(1);
    throw new Error(`local R2, ${key}: expected to be served, got "${await response.text()}"; run it again`);
  };
  return {
    name: "local R2",
    size: async (key) => {
      const response = await ask(url(key, "?size"));
      return response && Number(await response.text());
    },
    get: async (key) => (await (await ask(url(key)))?.bytes()) ?? null,
    put: async (key, bytes) => {
      await ask(url(key), { method: "PUT", body: Uint8Array.from(bytes) });
    },
    putFile: async (key, file, advance) => {
      // The Content-Length lets R2 take the body as it comes.
      const headers = { "content-length": String(file.bytes) };
      await sendChecked(file, advance, (bytes) =>
        ask(url(key), { method: "PUT", headers, body: ReadableStream.from(bytes), duplex: "half" }),
      );
    },
    copy: async (from, to) => (await ask(url(to, `?from=${encodeURIComponent(from)}`), { method: "PUT" })) !== null,
    list: async (prefix) => {
      const response = await ask(url("", `?prefix=${encodeURIComponent(prefix)}`));
      return listing.parse(await response?.json());
    },
    delete: async (key) => {
      await ask(url(key), { method: "DELETE" });
    },
    close: () => worker.dispose(),
  };
}
