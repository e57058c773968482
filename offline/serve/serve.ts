/** The API on Node: the same app as the Worker's, over folders in place of R2 and with the memory that this machine has. */
import { once } from "node:events";
import { serve as listen } from "@hono/node-server";
import { api } from "../../src/api.ts";
import type { Manifest } from "../../src/core/manifest.ts";
import type { Environment } from "../../src/environment.ts";
import { openApproximate, prepareApproximate } from "../index/approximate.ts";
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

export interface ServeSettings {
  host: string;
  /** 0 is any free one. */
  port: number;
  /** Bytes that all open indexes together may hold. */
  memory: number;
  /** Answers come from hnswlib's graph, built first where it is not there. `report` takes a line on each index. */
  approximate?: { report(line: string): void } | undefined;
}

/** Serves the indexes of folders. Throws an Error where one has no index, two have one name, or the port is taken. */
export async function serve(given: readonly string[], settings: ServeSettings): Promise<Server> {
  const { host, port, memory, approximate } = settings;
  const { bucket, folders } = await folderBucket(given);
  if (approximate) {
    for (const [name, folder] of folders) approximate.report(`${name}: ${await prepareApproximate(folder)}`);
  }
  const page = await pageFiles();
  const bindings: Environment["Bindings"] = {
    BUCKET: bucket,
    RESIDENT_BYTES: String(memory),
    kernel: loadKernel(),
    ...(approximate
      ? { openBackend: (manifest: Manifest) => openApproximate(folders.get(manifest.name) ?? "", manifest) }
      : {}),
  };
  // What outlives a request reports its own failures: it never rejects.
  const context = { waitUntil() {}, passThroughOnException() {}, props: {} };
  const server = listen({
    fetch: (request) => page(request) ?? api.fetch(request, bindings, context),
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
