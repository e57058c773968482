/** Caching of what belongs to one version: for ever when the version is part of the request, else asked again by its ETag. */
import type { Context } from "hono";
import type { Manifest } from "./core/manifest.ts";
import { Problem } from "./problem.ts";

const FOR_EVER = "public, max-age=31536000, immutable";

/**
 * The headers of a part of a version; `part` tells it from others under the same path. Throws 404 when `version` is asked for and
 * is not the one served.
 */
export function cached(manifest: Manifest, version: string | undefined, part: string): Record<string, string> {
  if (version !== undefined && version !== manifest.version) {
    throw new Problem(
      "unknown-version",
      `version: expected ${manifest.version}, which index ${manifest.name} serves now, got ${version}; ask again without it.`,
    );
  }
  return {
    ETag: `"${manifest.version}/${encodeURIComponent(part)}"`,
    "Cache-Control": version === undefined ? "no-cache" : FOR_EVER,
  };
}

/** True when the client has it already: the answer is 304 then. */
export function unchanged(c: Context, headers: Record<string, string>): boolean {
  const known = c.req.header("If-None-Match");
  if (known === undefined) return false;
  return known.trim() === "*" || (known.match(/"[^"]*"/g) ?? []).some((tag) => tag === headers.ETag);
}
