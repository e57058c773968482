/** The API on Node: the same app as the Worker's, over folders in place of R2 and with the memory that this machine has. */
import { once } from "node:events";
import { serve as listen } from "@hono/node-server";
import { api } from "../../src/api.ts";
import type { Environment } from "../../src/environment.ts";
import { folderBucket } from "../store/folder-bucket.ts";
import { loadKernel } from "./kernel.ts";
import { pageFiles } from "./page-files.ts";

export interface Server {
  /** http://host:port */
  address: string;
  /** Folders of the indexes, by name. */
  folders: Map<string, string>;
  close(): Promise<void>;
}

/**
 * Serves the indexes of a folder. `port` 0 is any free one; `memory`: bytes that all open indexes together may hold. Throws an
 * Error where there is no index, or where the port is taken.
 */
export async function serve(folder: string, host: string, port: number, memory: number): Promise<Server> {
  const { bucket, folders } = await folderBucket(folder);
  const page = await pageFiles();
  const settings: Environment["Bindings"] = { BUCKET: bucket, RESIDENT_BYTES: String(memory), kernel: loadKernel() };
  // What outlives a request reports its own failures: it never rejects.
  const context = { waitUntil() {}, passThroughOnException() {}, props: {} };
  const server = listen({
    fetch: (request) => page(request) ?? api.fetch(request, settings, context),
    hostname: host,
    port,
  });
  try {
    await once(server, "listening");
  } catch (error) {
    const got = error instanceof Error ? error.message : String(error);
    throw new Error(`${host}:${port}: expected a free port, got "${got}"; choose another with --port`);
  }
  const bound = server.address();
  const used = typeof bound === "object" && bound !== null ? bound.port : port;
  return {
    address: `http://${host.includes(":") ? `[${host}]` : host}:${used}`,
    folders,
    close: () => new Promise((resolve, reject) => server.close((error) => (error ? reject(error) : resolve()))),
  };
}
