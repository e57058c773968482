/** The shapes of the API: every request that it takes and every answer that it gives. Types are inferred, OpenAPI is generated. */
import * as z from "zod";
import { indexName, manifestSchema, versionName } from "./core/manifest.ts";

export const MAX_TOP_K = 1000;
export const DEFAULT_TOP_K = 10;
export const MAX_PAGE = 200;

const topKRule = { error: `expected an integer from 1 to ${MAX_TOP_K}` };
const topK = z.int(topKRule).min(1, topKRule).max(MAX_TOP_K, topKRule);
const finite = z.number({ error: "expected a finite number" });

/** A whole number in a query string, within bounds. */
function wholeParameter(least: number, most: number) {
  const rule = { error: `expected an integer from ${least} to ${most}` };
  return z
    .string()
    .regex(/^[+-]?\d+$/, rule)
    .transform(Number)
    .pipe(z.int(rule).min(least, rule).max(most, rule));
}

export const indexParameters = z.object({
  index: indexName.meta({ description: "Name of the index.", example: "mnist" }),
});
export const rowParameters = indexParameters.extend({
  id: z.string().meta({ description: "Id of the example or the stored query.", example: "test-05955" }),
});
export const versionParameter = z.object({
  version: versionName
    .optional()
    .meta({ description: "The version wanted; with it, the answer may be cached for ever." }),
});

/** What POST …/influence takes as JSON or MessagePack. */
export const influenceRequest = z
  .strictObject(
    {
      gradient: z.array(finite, { error: "expected an array of numbers" }).optional().meta({
        description: "[R] the compressed gradient of the query's loss: its values at the coordinates of …/mask.",
      }),
      query: z
        .string({ error: "expected the id of a stored query as a string" })
        .optional()
        .meta({ description: "Id of a stored query (…/queries), in place of a gradient." }),
      topK: topK.default(DEFAULT_TOP_K).meta({ description: "Length of each of the two lists." }),
    },
    { error: "expected an object of gradient or query, and topK" },
  )
  .refine((body) => (body.gradient === undefined) !== (body.query === undefined), {
    error: "expected either gradient or query",
  })
  .meta({ ref: "InfluenceRequest", example: { query: "test-05955", topK: 10 } });
export type InfluenceRequest = z.infer<typeof influenceRequest>;

/** The query string of POST …/influence; for a body of raw float32, which has no place for it. */
export const influenceParameters = z.object({
  topK: wholeParameter(1, MAX_TOP_K).optional().meta({ description: "topK, when the body is raw float32." }),
});

const cell = z.union([z.number(), z.string(), z.boolean(), z.null()]);
const row = z.object({
  id: z.string(),
  image: z.string().exactOptional().meta({ description: "Path of its image, when the index has images." }),
});

/** A training example or a stored query: its id, and every column that the index has for it. */
export const rowSchema = row
  .catchall(cell)
  .meta({ ref: "Row", example: { id: "train-31596", label: 3, flipped: false } });
export type Row = z.infer<typeof rowSchema>;

const neighbourSchema = row
  .extend({
    influence: z.number().meta({
      description: "Change of the query's loss per weight on this example: negative is helpful, positive is harmful.",
    }),
  })
  .catchall(cell)
  .meta({ ref: "Neighbour" });
export type NeighbourRow = z.infer<typeof neighbourSchema>;

export const influenceAnswer = z
  .object({
    index: z.object({ name: z.string(), version: z.string() }),
    query: rowSchema.optional().meta({ description: "The stored query, when one was asked for." }),
    topK: z.int(),
    helpful: z.array(neighbourSchema).meta({ description: "Most negative influence first." }),
    harmful: z.array(neighbourSchema).meta({ description: "Most positive influence first." }),
    exact: z.boolean().meta({ description: "True when members and order are proved, not only likely." }),
    survivors: z.int().meta({ description: "Rows that the bound could not exclude." }),
    rescored: z.int().meta({ description: "Rows read in full precision." }),
  })
  .meta({ ref: "InfluenceAnswer" });
export type InfluenceAnswer = z.infer<typeof influenceAnswer>;

/** GET /v1/indexes/{index}: the manifest, and where its parts are. */
export const indexSchema = manifestSchema
  .extend({
    maxTopK: z.int(),
    links: z.record(z.string(), z.string()).meta({ description: "Paths of what this index has, by name." }),
  })
  .meta({ ref: "Index" });
export type IndexDescription = z.infer<typeof indexSchema>;

const indexSummary = manifestSchema
  .pick({ name: true, title: true, version: true, n: true, dimension: true, queries: true, loss: true })
  .extend({ layers: z.int().meta({ description: "Number of layers." }), self: z.string() })
  .meta({ ref: "IndexSummary" });

export const indexesAnswer = z
  .object({
    indexes: z.array(indexSummary),
    unavailable: z.array(z.object({ name: z.string(), detail: z.string() })).meta({
      description: "Indexes that are published but cannot be read, and why.",
    }),
  })
  .meta({ ref: "Indexes" });
export type IndexesAnswer = z.infer<typeof indexesAnswer>;

export const maskAnswer = z
  .object({
    dimension: z.int(),
    layers: z.array(
      z.object({
        name: z.string(),
        offset: z.int().meta({ description: "Position of the layer's first kept coordinate among the R." }),
        d: z.int(),
        kept: z.array(z.int()).meta({ description: "Kept positions of the layer's d entries, ascending." }),
      }),
    ),
  })
  .meta({ ref: "Mask" });

export const queriesParameters = z
  .object({
    limit: wholeParameter(1, MAX_PAGE).default(50).meta({ description: "Length of the page." }),
    offset: wholeParameter(0, 0x7fffffff).default(0),
    misclassified: z
      .enum(["true", "false"], { error: "expected true or false" })
      .optional()
      .meta({ description: "Only those whose prediction differs from (true) or equals (false) their label." }),
  })
  .catchall(z.string())
  .meta({ description: "Any other parameter names a column and filters by equality." });

export const queriesAnswer = z
  .object({
    total: z.int().meta({ description: "Stored queries that pass the filter." }),
    offset: z.int(),
    limit: z.int(),
    queries: z.array(rowSchema).meta({ description: "Misclassified ones first, each kind by falling loss." }),
  })
  .meta({ ref: "Queries" });
export type QueriesAnswer = z.infer<typeof queriesAnswer>;

export const healthAnswer = z.object({ status: z.literal("ok") }).meta({ ref: "Health" });
export const readyAnswer = z
  .object({ status: z.literal("ready"), index: z.string(), version: z.string(), residentBytes: z.int() })
  .meta({ ref: "Ready" });
