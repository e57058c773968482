/** The HTTP API, whole: its routes, what is answered where there is none, and its description. */
import { type Context, Hono } from "hono";
import { METHODS } from "hono/router";
import { openAPIRouteHandler } from "hono-openapi";
import type { Environment } from "./environment.ts";
import { groups } from "./groups.ts";
import { health } from "./health.ts";
import { indexes } from "./indexes.ts";
import { influence, influenceDescription } from "./influence.ts";
import { onError, Problem } from "./problem.ts";
import { rows } from "./rows.ts";

export const api = new Hono<Environment>();

api.onError(onError);
api.notFound((c) => {
  const allowed = allowedMethods(c);
  const { path, method } = c.req;
  if (allowed.length === 0) {
    throw new Problem("unknown-route", `${method} ${path}: expected a route of /openapi.json, got another; see there.`);
  }
  const list = allowed.join(", ");
  throw new Problem("method-not-allowed", `${path}: expected ${list}, got ${method}; see /openapi.json.`, {
    Allow: list,
  });
});

api.route("/", health);
api.route("/", indexes);
api.route("/", influence);
api.route("/", groups);
api.route("/", rows);

const description =
  "Which training examples made the model say this? Negative influence: more weight on the example lowers the query's loss " +
  "(helpful); positive: it raises it (harmful). Errors are problem documents (RFC 9457).";
api.get(
  "/openapi.json",
  openAPIRouteHandler(new Hono().route("/", api).route("/", influenceDescription), {
    documentation: { info: { title: "influence-edge", version: "1", description } },
    exclude: ["/openapi.json"],
    defaultValidationErrorResponse: false,
  }),
);

/** Methods that the path has a route for. */
function allowedMethods(c: Context): string[] {
  const methods = METHODS.map((method) => method.toUpperCase());
  const known = methods.filter((method) => api.router.match(method, c.req.path)[0].length > 0);
  return known.includes("GET") ? ["GET", "HEAD", ...known.filter((method) => method !== "GET")] : known;
}
