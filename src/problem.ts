/**
 * Errors as problem documents (RFC 9457). Whoever finds the fault throws a Problem with one sentence: what and where, expected
 * and got, what to do. `onError` turns it, and nothing else, into a response.
 */
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as z from "zod";
import { BudgetError } from "./core/resident.ts";
import { CorruptIndexError } from "./core/source.ts";

/** Every kind of problem: its status and its title. The kind is the last part of `type`. */
const KINDS = {
  "invalid-parameter": [400, "Invalid parameter"],
  "invalid-body": [400, "Invalid body"],
  "invalid-gradient": [400, "Invalid gradient"],
  "unknown-route": [404, "Unknown route"],
  "unknown-index": [404, "Unknown index"],
  "unknown-query": [404, "Unknown query"],
  "unknown-example": [404, "Unknown example"],
  "unknown-column": [404, "Unknown column"],
  "unknown-value": [404, "Unknown value"],
  "unknown-version": [404, "Version not served"],
  "missing-file": [404, "No such file in this index"],
  "method-not-allowed": [405, "Method not allowed"],
  "body-too-large": [413, "Body too large"],
  "unsupported-media-type": [415, "Unsupported media type"],
  internal: [500, "Internal error"],
  "corrupt-index": [503, "Corrupt index"],
  "not-ready": [503, "Not ready"],
  "bucket-unreachable": [503, "Bucket unreachable"],
  "insufficient-memory": [507, "Index does not fit"],
} as const satisfies Record<string, readonly [ContentfulStatusCode, string]>;

export type ProblemKind = keyof typeof KINDS;

export class Problem extends Error {
  readonly kind: ProblemKind;
  readonly headers: Record<string, string>;
  constructor(kind: ProblemKind, detail: string, headers: Record<string, string> = {}) {
    super(detail);
    this.name = "Problem";
    this.kind = kind;
    this.headers = headers;
  }
}

export const problemSchema = z
  .object({
    type: z.string().meta({ description: "Names the kind of problem; stable." }),
    title: z.string(),
    status: z.int(),
    detail: z.string().meta({ description: "One sentence: what and where, expected and got, what to do." }),
  })
  .meta({ ref: "Problem" });
export type ProblemDocument = z.infer<typeof problemSchema>;

/** The problem that an error is: a Problem is itself, a corrupt file is 503, an index too large is 507, anything else is ours and says no more than that. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof CorruptIndexError) return new Problem("corrupt-index", error.message, { "Retry-After": "60" });
  if (error instanceof BudgetError) return new Problem("insufficient-memory", `${error.message}.`);
  return new Problem("internal", "The server failed to answer; the request may be repeated.");
}

/** The document of a problem. */
export function documentOf(problem: Problem): ProblemDocument {
  const [status, title] = KINDS[problem.kind];
  return { type: `urn:influence-edge:problem:${problem.kind}`, title, status, detail: problem.message };
}

/** The app's one error handler. Errors that are not the caller's fault are logged whole. */
export function onError(error: Error, c: Context): Response {
  const problem = problemOf(error);
  const [status] = KINDS[problem.kind];
  if (status >= 500) console.error(error);
  return c.body(JSON.stringify(documentOf(problem)), status, {
    "Content-Type": "application/problem+json",
    "Cache-Control": "no-store",
    ...problem.headers,
  });
}

/** A value as a message shows it: short, one line. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** A fault that a schema found (Standard Schema; zod's own are a special case). */
interface Issue {
  message: string;
  path?: readonly (PropertyKey | { key: PropertyKey })[] | undefined;
}

/** What the first fault of a failed parse is: "topK: expected an integer from 1 to 1000, got 1.5". `input` is what was parsed. */
export function explain(issues: readonly Issue[], input: unknown): string {
  const issue = issues[0];
  if (!issue) return "expected other input";
  let got = input;
  let where = "";
  for (const segment of issue.path ?? []) {
    const key = typeof segment === "object" ? segment.key : segment;
    where += typeof key === "number" ? `[${key}]` : where === "" ? String(key) : `.${String(key)}`;
    got = typeof got === "object" && got !== null ? Reflect.get(got, key) : undefined;
  }
  return `${where === "" ? "" : `${where}: `}${issue.message}, got ${show(got)}`;
}
