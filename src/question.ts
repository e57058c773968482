/** What a request asks about: the body in its three formats, and the gradients that it gives or names. */
import type { Context } from "hono";
import type * as z from "zod";
import { readBody } from "./body.ts";
import { littleEndianFloats, type OpenIndex, storedQueries } from "./open-index.ts";
import { explain, Problem, show } from "./problem.ts";
import { describeRow, findRow } from "./rows.ts";
import type { Row } from "./schema.ts";

/** Queries as asked for: by id, as numbers, or as raw float32. */
export type Queries =
  | { ids: readonly string[] }
  | { gradients: readonly number[][]; name: string }
  | { raw: Float32Array; count: number };

/** The body: raw float32, or what `schema` makes of JSON and MessagePack. Throws a Problem: 400, 413 or 415. */
export async function readQuestion<Schema extends z.ZodType>(
  c: Context,
  schema: Schema,
): Promise<{ raw: Float32Array } | { value: z.infer<Schema> }> {
  const body = await readBody(c);
  if (body.kind === "float32") {
    if (body.bytes.length % 4 === 0) return { raw: littleEndianFloats(body.bytes) };
    throw new Problem(
      "invalid-gradient",
      `gradient: expected whole float32 numbers, got ${body.bytes.length} bytes; send 4 R bytes.`,
    );
  }
  const parsed = schema.safeParse(body.value);
  if (parsed.success) return { value: parsed.data };
  const part = parsed.error.issues[0]?.path[0];
  const kind = part === "gradient" || part === "gradients" ? "invalid-gradient" : "invalid-body";
  throw new Problem(kind, `${explain(parsed.error.issues, body.value)}.`);
}

/** One query, by its gradient or by its id; the schema has seen to it that it has one of them. */
export const oneOf = (gradient: number[] | undefined, id: string | undefined): Queries =>
  id === undefined ? { gradients: [gradient ?? []], name: "gradient" } : { ids: [id] };

/** The queries' gradients, [R] each, and what is known of those that are stored. Throws a Problem. */
export async function gradientsOf(
  index: OpenIndex,
  queries: Queries,
): Promise<{ gradients: Float32Array[]; stored: Row[] }> {
  if ("ids" in queries) {
    const rows = queries.ids.map((id) => findRow(index, "query", id));
    return {
      gradients: await storedQueries(index, rows),
      stored: rows.map((row) => describeRow(index, "query", row, {})),
    };
  }
  const gradients =
    "raw" in queries
      ? split(index, queries.raw, queries.count)
      : queries.gradients.map((given, at) => {
          const name = queries.name === "gradient" ? "gradient" : `${queries.name}[${at}]`;
          checkLength(index, name, given.length, 1);
          const values = Float32Array.from(given);
          checkFinite(name, values, given);
          return values;
        });
  return { gradients, stored: [] };
}

function split(index: OpenIndex, values: Float32Array, count: number): Float32Array[] {
  checkLength(index, "gradient", values.length, count);
  checkFinite("gradient", values, values);
  if (count === 1) return [values];
  const { dimension } = index.manifest;
  return Array.from({ length: count }, (_, at) => values.subarray(at * dimension, (at + 1) * dimension));
}

function checkLength({ manifest: { name, dimension } }: OpenIndex, where: string, length: number, count: number): void {
  if (length === count * dimension) return;
  const expected = count === 1 ? `${dimension} numbers` : `${count} times ${dimension} numbers`;
  throw new Problem(
    "invalid-gradient",
    `${where}: expected ${expected}, R of index ${name}, got ${length}; take those at /v1/indexes/${name}/mask.`,
  );
}

/** Throws unless every number is finite and within float32. `given`: as the client wrote them. */
function checkFinite(where: string, values: Float32Array, given: ArrayLike<number>): void {
  // Not findIndex, which calls a function for each of the R values.
  let wrong = 0;
  while (wrong < values.length && Number.isFinite(values[wrong])) wrong++;
  if (wrong === values.length) return;
  throw new Problem(
    "invalid-gradient",
    `${where}[${wrong}]: expected a finite number within float32, got ${show(given[wrong])}; check the model's loss.`,
  );
}
