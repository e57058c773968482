/** How a route is described to OpenAPI, and how its parameters are validated: one way for all. */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Context, ValidationTargets } from "hono";
import { describeRoute, resolver, validator } from "hono-openapi";
import type * as z from "zod";
import { JSON_TYPE, MSGPACK_TYPE } from "./body.ts";
import { explain, Problem, problemSchema } from "./problem.ts";

const problemContent = { "application/problem+json": { schema: resolver(problemSchema) } };

/** A route that answers `schema` as JSON or MessagePack, and may fail with the given statuses. */
export function answers(summary: string, schema: z.ZodType, failures: readonly number[] = []) {
  const content = { schema: resolver(schema) };
  return describe(summary, { [JSON_TYPE]: content, [MSGPACK_TYPE]: content }, failures);
}

/** A route that answers bytes of the given media type. */
export function answersBytes(summary: string, type: string, failures: readonly number[] = []) {
  return describe(summary, { [type]: { schema: { type: "string", format: "binary" } } }, failures);
}

type Content = Record<string, { schema: ReturnType<typeof resolver> | { type: "string"; format: string } }>;

export function describe(summary: string, content: Content, failures: readonly number[]) {
  const problems = failures.map((status) => [status, { description: "Problem", content: problemContent }] as const);
  return describeRoute({
    summary,
    responses: { 200: { description: summary, content }, ...Object.fromEntries(problems) },
  });
}

/** The body that a route takes: `schema` in each of `types`, or bytes as `raw`. The handler reads and validates it. */
export function requestBody(description: string, schema: z.ZodType, types: readonly string[], raw: string) {
  const content = Object.fromEntries(types.map((type) => [type, { schema: resolver(schema) }] as const));
  const bytes = { schema: { type: "string", format: "binary" } as const };
  return describeRoute({ requestBody: { description, required: true, content: { ...content, [raw]: bytes } } });
}

/** Validates one part of the request; what is wrong is a 400 problem document. */
export function validated<Schema extends StandardSchemaV1 & z.ZodType, Target extends keyof ValidationTargets>(
  target: Target,
  schema: Schema,
) {
  return validator(target, schema, (result) => {
    if (!result.success) throw invalidParameter(result.error, result.data);
  });
}

/** The same within a handler: what `schema` makes of parameters. Throws a Problem: 400. */
export function checked<Schema extends z.ZodType>(schema: Schema, parameters: object): z.infer<Schema> {
  const parsed = schema.safeParse(parameters);
  if (parsed.success) return parsed.data;
  throw invalidParameter(parsed.error.issues, parameters);
}

const invalidParameter = (issues: Parameters<typeof explain>[0], input: unknown): Problem =>
  new Problem("invalid-parameter", `${explain(issues, input)}.`);

/** The query string's parameters: a string each, or a list where one is given several times. */
export function queryParameters(c: Context): Record<string, string | string[]> {
  const given = Object.entries(c.req.queries());
  return Object.fromEntries(given.map(([name, values]) => [name, values.length === 1 ? values[0] : values]));
}
