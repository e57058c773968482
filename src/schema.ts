/** The shapes of the API: every request that it takes and every answer that it gives. Types are inferred, OpenAPI is generated. */
import * as z from "zod";
import { indexName, manifestSchema, versionName } from "./core/manifest.ts";
import { QUERIES_AT_ONCE } from "./core/resident.ts";

export const MAX_TOP_K = 1000;
export const DEFAULT_TOP_K = 10;
export const MAX_PAGE = 200;
/** Queries of a batch, and of all its answers together the length of one list: what an isolate can hold and send. */
export const MAX_QUERIES = QUERIES_AT_ONCE;
export const MAX_BATCH_ROWS = 10_000;
/** Values and ids that a filter may list, and groups that influence is summed over. */
export const MAX_VALUES = 1_000;
export const MAX_IDS = 10_000;
export const MAX_GROUPS = 10_000;

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

const cell = z.union([z.number(), z.string(), z.boolean(), z.null()], {
  error: "expected a number, a string, true, false or null",
});
export type Cell = z.infer<typeof cell>;

/** A list of 1 to `most` values; `what` names them. */
function listOf<Item extends z.ZodType>(item: Item, most: number, what: string) {
  const rule = { error: `expected an array of 1 to ${most} ${what}` };
  return z.array(item, rule).min(1, rule).max(most, rule);
}

const gradient = z.array(finite, { error: "expected an array of numbers" });
const queryId = z.string({ error: "expected the id of a stored query as a string" });
const columnName = z
  .string({ error: "expected the name of a column as a string" })
  .meta({ description: "Name of a column of the training examples.", example: "label" });

const filterSchema = z
  .strictObject(
    {
      column: columnName.optional(),
      values: listOf(cell, MAX_VALUES, "values").optional().meta({ description: "Any of these, equal in type too." }),
      ids: listOf(z.string({ error: "expected an id as a string" }), MAX_IDS, "ids").optional(),
    },
    { error: "expected an object of column and values, or of ids" },
  )
  .refine(
    ({ column, values, ids }) =>
      (column === undefined) === (values === undefined) && (ids === undefined) !== (column === undefined),
    { error: "expected an object of column and values, or of ids" },
  )
  .meta({
    ref: "Filter",
    description: "Only these training examples count: those of the values in the column, or those of the ids.",
    example: { column: "label", values: [3, 8] },
  });
export type Filter = z.infer<typeof filterSchema>;

/** One query: the gradient, or the id of a stored one. */
const oneQuery = {
  gradient: gradient.optional().meta({
    description: "[R] the compressed gradient of the query's loss: its values at the coordinates of …/mask.",
  }),
  query: queryId.optional().meta({ description: "Id of a stored query (…/queries), in place of a gradient." }),
};

/** What POST …/influence takes as JSON or MessagePack. */
export const influenceRequest = z
  .strictObject(
    {
      ...oneQuery,
      gradients: listOf(gradient, MAX_QUERIES, "gradients").optional().meta({
        description: "[queries][R] a batch: every training example is read once for all of them.",
      }),
      queries: listOf(queryId, MAX_QUERIES, "ids of stored queries").optional().meta({
        description: "A batch of stored queries.",
      }),
      topK: topK.default(DEFAULT_TOP_K).meta({
        description: `Length of each of the two lists; times the queries of a batch at most ${MAX_BATCH_ROWS}.`,
      }),
      filter: filterSchema.optional(),
    },
    { error: "expected an object of gradient, query, gradients or queries, with topK and filter" },
  )
  .refine(
    ({ gradient, query, gradients, queries }) =>
      [gradient, query, gradients, queries].filter((given) => given !== undefined).length === 1,
    { error: "expected either gradient, query, gradients or queries" },
  )
  .meta({ ref: "InfluenceRequest", example: { query: "test-05955", topK: 10 } });
export type InfluenceRequest = z.infer<typeof influenceRequest>;

const timing = z
  .enum(["true", "false"], { error: "expected true or false" })
  .optional()
  .meta({ description: "true: a Server-Timing header says where the time went." });

/** The query string of POST …/influence; for a body of raw float32, which has no place for it. */
export const influenceParameters = z.object({
  topK: wholeParameter(1, MAX_TOP_K).optional().meta({ description: "topK, when the body is raw float32." }),
  queries: wholeParameter(1, MAX_QUERIES)
    .optional()
    .meta({ description: "Makes a body of raw float32 a batch of so many queries, [queries][R]." }),
  timing,
});

/** What POST …/groups takes as JSON or MessagePack. */
export const groupsRequest = z
  .strictObject(
    { ...oneQuery, column: columnName, filter: filterSchema.optional() },
    { error: "expected an object of gradient or query, and column, with filter" },
  )
  .refine(({ gradient, query }) => (gradient === undefined) !== (query === undefined), {
    error: "expected either gradient or query",
  })
  .meta({ ref: "GroupsRequest", example: { query: "test-05955", column: "label" } });
export type GroupsRequest = z.infer<typeof groupsRequest>;

/** The query string of POST …/groups. */
export const groupsParameters = z.object({
  column: columnName.optional().meta({ description: "column, when the body is raw float32." }),
  timing,
});

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

const servedIndex = z.object({ name: z.string(), version: z.string() });
const askedQuery = rowSchema.optional().meta({ description: "The stored query, when one was asked for." });

const listsSchema = z
  .object({
    query: askedQuery,
    helpful: z.array(neighbourSchema).meta({ description: "Most negative influence first." }),
    harmful: z.array(neighbourSchema).meta({ description: "Most positive influence first." }),
    exact: z.boolean().meta({ description: "True when members and order are proved, not only likely." }),
    recall: z.number().meta({
      description: "The share of the true members that is found, measured when the index was built; 1 where exact.",
    }),
    survivors: z.int().meta({ description: "Rows that the bound could not exclude." }),
    rescored: z.int().meta({ description: "Rows read in full precision." }),
  })
  .meta({ ref: "Lists" });

const influenceAnswer = listsSchema.extend({ index: servedIndex, topK: z.int() }).meta({ ref: "InfluenceAnswer" });
export type InfluenceAnswer = z.infer<typeof influenceAnswer>;
const batchAnswer = z
  .object({
    index: servedIndex,
    topK: z.int(),
    answers: z.array(listsSchema).meta({ description: "One of each query, in the order asked." }),
  })
  .meta({ ref: "BatchAnswer" });
export const influenceAnswers = z.union([influenceAnswer, batchAnswer]);

const groupSchema = z
  .object({
    value: cell,
    count: z.int().meta({ description: "Training examples of this value." }),
    sum: z.number().meta({ description: "The sum of their influences: negative is helpful." }),
    mean: z.number(),
    error: z.number().meta({
      description: "The sum is within this of the float32 rows' own; 0 up to rounding where they are held in memory.",
    }),
  })
  .meta({ ref: "Group" });
export type Group = z.infer<typeof groupSchema>;

export const groupsAnswer = z
  .object({
    index: servedIndex,
    query: askedQuery,
    column: z.string(),
    rows: z.int().meta({ description: "Training examples summed: all n, or those of the filter." }),
    groups: z.array(groupSchema).meta({ description: "One of each value in the column, the most helpful sum first." }),
  })
  .meta({ ref: "Groups" });
export type GroupsAnswer = z.infer<typeof groupsAnswer>;

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
        r: z.int().meta({ description: "Coordinates of the layer's block." }),
        kept: z.array(z.int()).meta({
          description:
            "Kept positions of the layer's d entries, ascending; in a parameter with directions that begins at p, p + a · columns + c " +
            "stands for u_a · G · v_c.",
        }),
        folded: z.array(z.int()).optional().meta({
          description: "The place in the block that each kept coordinate is added to, or ~place if subtracted.",
        }),
        directions: z
          .array(
            z
              .object({ rows: z.int(), columns: z.int(), left: z.array(z.number()), right: z.array(z.number()) })
              .nullable(),
          )
          .optional()
          .meta({
            description:
              "By parameter, null for one kept as it is: its gradient as a matrix G [rows, columns] is seen in the columns u of left " +
              "[rows, …] and v of right [columns, …].",
          }),
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
