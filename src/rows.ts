/** Single rows: training examples and stored queries, what is known of them, and their images. */
import { type Context, Hono } from "hono";
import { answer } from "./body.ts";
import { cached, unchanged } from "./caching.ts";
import { FILES, type Metadata } from "./core/manifest.ts";
import { answers, answersBytes, validated } from "./describe.ts";
import { type Environment, hostOf } from "./environment.ts";
import { openIndex } from "./isolate.ts";
import { misclassified, type OpenIndex, readImage, rowOf } from "./open-index.ts";
import { Problem } from "./problem.ts";
import {
  indexParameters,
  type QueriesAnswer,
  queriesAnswer,
  queriesParameters,
  type Row,
  rowParameters,
  rowSchema,
  versionParameter,
} from "./schema.ts";

type Kind = "example" | "query";

const KINDS = {
  example: { path: "examples", images: FILES.exampleImages, unknown: "unknown-example", what: "a training example" },
  query: { path: "queries", images: FILES.queryImages, unknown: "unknown-query", what: "a stored query" },
} as const;

const metadataOf = (index: OpenIndex, kind: Kind): Metadata => (kind === "example" ? index.examples : index.queries);

/** The row of an id. Throws 404. */
export function findRow(index: OpenIndex, kind: Kind, id: string): number {
  const row = metadataOf(index, kind).ids.indexOf(id);
  if (row < 0) {
    const { unknown, what } = KINDS[kind];
    const { name } = index.manifest;
    const where = kind === "query" ? `; /v1/indexes/${name}/queries lists them` : "; influence answers name them";
    throw new Problem(unknown, `id: expected the id of ${what} of index ${name}, got "${id}"${where}.`);
  }
  return row;
}

/** A row as the API shows it: its id, what is `said` of it first, its columns, the path of its image. */
export function describeRow<Said extends object>(index: OpenIndex, kind: Kind, row: number, said: Said): Row & Said {
  const { manifest } = index;
  const { path, images } = KINDS[kind];
  const described: Row & Said = rowOf(metadataOf(index, kind), row, said);
  if (!manifest.files[images]) return described;
  const shown: Row = described;
  shown.image = `/v1/indexes/${manifest.name}/${path}/${encodeURIComponent(described.id)}/image?version=${manifest.version}`;
  return described;
}

async function describeOne(c: Context<Environment>, kind: Kind, name: string, id: string): Promise<Response> {
  const index = await openIndex(hostOf(c), name);
  return answer(c, describeRow(index, kind, findRow(index, kind, id), {}), { "Cache-Control": "no-cache" });
}

async function sendImage(
  c: Context<Environment>,
  kind: Kind,
  { index: name, id }: { index: string; id: string },
  version: string | undefined,
): Promise<Response> {
  const index = await openIndex(hostOf(c), name);
  const { images, what } = KINDS[kind];
  const row = findRow(index, kind, id);
  if (!index.manifest.files[images]) {
    throw new Problem(
      "missing-file",
      `image: expected index ${name} to carry images, got none; ${what} has columns only.`,
    );
  }
  const headers = cached(index.manifest, version, `${kind}/${id}`);
  if (unchanged(c, headers)) return c.body(null, 304, headers);
  return c.body(new Uint8Array(await readImage(index, images, row)), 200, { ...headers, "Content-Type": "image/png" });
}

/** Rows of the stored queries that pass the filter, in the order of the list. */
function filterQueries(index: OpenIndex, wanted: boolean | undefined, equal: Record<string, string>): number[] {
  const { columns } = index.queries;
  for (const name of Object.keys(equal)) {
    if (!Object.hasOwn(columns, name)) {
      const known = ["limit", "offset", "misclassified", ...Object.keys(columns)].join(", ");
      throw new Problem(
        "invalid-parameter",
        `${name}: expected one of ${known}, got a name that is none; leave it out.`,
      );
    }
  }
  return Array.from(index.queryOrder).filter(
    (row) =>
      (wanted === undefined || misclassified(index.queries, row) === wanted) &&
      Object.entries(equal).every(([name, value]) => String(columns[name][row]) === value),
  );
}

export const rows = new Hono<Environment>()
  .get(
    "/v1/indexes/:index/examples/:id",
    answers("One training example.", rowSchema, [400, 404, 503, 507]),
    validated("param", rowParameters),
    (c) => describeOne(c, "example", c.req.valid("param").index, c.req.valid("param").id),
  )
  .get(
    "/v1/indexes/:index/examples/:id/image",
    answersBytes("Its image.", "image/png", [400, 404, 503, 507]),
    validated("param", rowParameters),
    validated("query", versionParameter),
    (c) => sendImage(c, "example", c.req.valid("param"), c.req.valid("query").version),
  )
  .get(
    "/v1/indexes/:index/queries",
    answers("Stored queries, misclassified ones first; any column may filter.", queriesAnswer, [400, 404, 503, 507]),
    validated("param", indexParameters),
    validated("query", queriesParameters),
    async (c) => {
      const { limit, offset, misclassified: wrong, ...equal } = c.req.valid("query");
      const index = await openIndex(hostOf(c), c.req.valid("param").index);
      const matching = filterQueries(index, wrong === undefined ? undefined : wrong === "true", equal);
      const page: QueriesAnswer = {
        total: matching.length,
        offset,
        limit,
        queries: matching.slice(offset, offset + limit).map((row) => describeRow(index, "query", row, {})),
      };
      return answer(c, page, { "Cache-Control": "no-cache" });
    },
  )
  .get(
    "/v1/indexes/:index/queries/:id",
    answers("One stored query.", rowSchema, [400, 404, 503, 507]),
    validated("param", rowParameters),
    (c) => describeOne(c, "query", c.req.valid("param").index, c.req.valid("param").id),
  )
  .get(
    "/v1/indexes/:index/queries/:id/image",
    answersBytes("Its image.", "image/png", [400, 404, 503, 507]),
    validated("param", rowParameters),
    validated("query", versionParameter),
    (c) => sendImage(c, "query", c.req.valid("param"), c.req.valid("query").version),
  );
