/** The question itself: which training examples moved the loss on this input, and which way. */
import { type Context, Hono } from "hono";
import { answer, FLOAT32_TYPE, JSON_TYPE, MAX_BODY, MSGPACK_TYPE, readBody } from "./body.ts";
import type { Neighbour } from "./core/search.ts";
import { answers, requestBody, validated } from "./describe.ts";
import { type Environment, hostOf } from "./environment.ts";
import { openIndex } from "./isolate.ts";
import { littleEndianFloats, type OpenIndex, storedQuery } from "./open-index.ts";
import { explain, Problem, show } from "./problem.ts";
import { describeRow, findRow } from "./rows.ts";
import {
  DEFAULT_TOP_K,
  type InfluenceAnswer,
  type InfluenceRequest,
  indexParameters,
  influenceAnswer,
  influenceParameters,
  influenceRequest,
  type NeighbourRow,
} from "./schema.ts";
import { stopwatch } from "./timing.ts";

/** A request as asked: the gradient of raw float32 is typed already. */
type Question = Omit<InfluenceRequest, "gradient"> & { gradient?: number[] | Float32Array | undefined };

export const influence = new Hono<Environment>().post(
  "/v1/indexes/:index/influence",
  answers("The most helpful and the most harmful training examples.", influenceAnswer, [400, 404, 413, 415, 503, 507]),
  requestBody(
    `At most ${MAX_BODY} bytes. As ${FLOAT32_TYPE}: the R numbers as little-endian float32, topK in the query string.`,
    influenceRequest,
    [JSON_TYPE, MSGPACK_TYPE],
    FLOAT32_TYPE,
  ),
  validated("param", indexParameters),
  validated("query", influenceParameters),
  async (c) => {
    const watch = stopwatch();
    const question = await readQuestion(c, c.req.valid("query").topK);
    watch.lap("body");
    const index = await openIndex(hostOf(c), c.req.valid("param").index);
    watch.lap("load");
    const { manifest } = index;
    const row = question.query === undefined ? undefined : findRow(index, "query", question.query);
    const gradient = row === undefined ? checkGradient(index, question.gradient ?? []) : await storedQuery(index, row);
    watch.lap("query");
    const found = await index.searcher.search(gradient, question.topK);
    watch.lap("search");
    for (const [part, milliseconds] of Object.entries(found.milliseconds)) watch.part(part, milliseconds);
    const described = (neighbours: readonly Neighbour[]): NeighbourRow[] =>
      neighbours.map(({ row, influence }) => {
        const { id, ...rest } = describeRow(index, "example", row);
        return { id, influence, ...rest };
      });
    const result: InfluenceAnswer = {
      index: { name: manifest.name, version: manifest.version },
      ...(row === undefined ? {} : { query: describeRow(index, "query", row) }),
      topK: question.topK,
      helpful: described(found.helpful),
      harmful: described(found.harmful),
      exact: found.exact,
      survivors: found.survivors,
      rescored: found.rescored,
    };
    return answer(c, result, { "Server-Timing": watch.header(), "Cache-Control": "no-store" });
  },
);

async function readQuestion(c: Context, topK: number | undefined): Promise<Question> {
  const body = await readBody(c);
  if (body.kind === "float32") {
    if (body.bytes.length % 4 !== 0) {
      throw new Problem(
        "invalid-gradient",
        `gradient: expected whole float32 numbers, got ${body.bytes.length} bytes; send 4 R bytes.`,
      );
    }
    return { gradient: littleEndianFloats(body.bytes), topK: topK ?? DEFAULT_TOP_K };
  }
  const parsed = influenceRequest.safeParse(body.value);
  if (parsed.success) return parsed.data;
  const kind = parsed.error.issues[0]?.path[0] === "gradient" ? "invalid-gradient" : "invalid-body";
  throw new Problem(kind, `${explain(parsed.error.issues, body.value)}.`);
}

/** The gradient as float32. Throws unless it has R finite numbers that float32 can hold. */
function checkGradient(index: OpenIndex, gradient: number[] | Float32Array): Float32Array {
  const { name, dimension } = index.manifest;
  if (gradient.length !== dimension) {
    throw new Problem(
      "invalid-gradient",
      `gradient: expected ${dimension} numbers, R of index ${name}, got ${gradient.length}; take those at /v1/indexes/${name}/mask.`,
    );
  }
  const values = gradient instanceof Float32Array ? gradient : Float32Array.from(gradient);
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) {
    throw new Problem(
      "invalid-gradient",
      `gradient[${wrong}]: expected a finite number within float32, got ${show(gradient[wrong])}; check the model's loss.`,
    );
  }
  return values;
}
