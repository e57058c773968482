/** The page's files for a server on Node: what wrangler.toml has Cloudflare serve, the script bundled the same way. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const PAGE = new URL("../../src/page/", import.meta.url);
const SCRIPT = fileURLToPath(new URL("../../src/web/page.ts", import.meta.url));

const TYPES = { "index.html": "text/html", "page.css": "text/css", "icon.svg": "image/svg+xml" } as const;

interface PageFile {
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** The answer to a path of the page, null for any other. */
export async function pageFiles(): Promise<(request: Request) => Response | null> {
  const files = new Map<string, PageFile>();
  for (const [name, type] of Object.entries(TYPES)) {
    files.set(`/${name}`, {
      type: `${type}; charset=utf-8`,
      bytes: new Uint8Array(await readFile(new URL(name, PAGE))),
    });
  }
  const { outputFiles } = await build({
    entryPoints: [SCRIPT],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2023",
    write: false,
    logLevel: "silent",
  });
  const bytes = new Uint8Array(outputFiles[0]?.contents ?? []);
  files.set("/page.js", { type: "text/javascript; charset=utf-8", bytes });
  const headers = headersOf(await readFile(new URL("_headers", PAGE), "utf8"));
  return (request) => {
    const { pathname } = new URL(request.url);
    const file = files.get(pathname === "/" ? "/index.html" : pathname);
    if (file === undefined || (request.method !== "GET" && request.method !== "HEAD")) return null;
    const own = { ...headers, "Content-Type": file.type, "Cache-Control": "no-cache" };
    return new Response(request.method === "HEAD" ? null : file.bytes, { headers: own });
  };
}

/** What _headers says for every path. */
function headersOf(text: string): Record<string, string> {
  const lines = text
    .split("\n")
    .slice(1)
    .filter((line) => line.includes(":"));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]),
  );
}
