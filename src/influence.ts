/** The question itself: which training examples moved the loss on this input, or on each of a batch, and which way. */
import { Hono } from "hono";
import type * as z from "zod";
import { beginBytes, endBytes } from "./answer-bytes.ts";
import { FLOAT32_TYPE, JSON_TYPE, MAX_BODY, MSGPACK_TYPE, prefers, send } from "./body.ts";
import { bitmapOf } from "./columns.ts";
import type { SearchAnswer } from "./core/search.ts";
import { answers, checked, queryParameters, requestBody, validated } from "./describe.ts";
import { type Environment, hostOf } from "./environment.ts";
import { isOpen, openIndex } from "./isolate.ts";
import { json, messagePack, type Notation } from "./notation.ts";
import type { OpenIndex } from "./open-index.ts";
import { Problem } from "./problem.ts";
import { gradientsOf, oneOf, type Queries, readQuestion } from "./question.ts";
import { writeExamples, writeServed } from "./row-bytes.ts";
import {
  DEFAULT_TOP_K,
  type Filter,
  type InfluenceRequest,
  indexParameters,
  influenceAnswers,
  influenceParameters,
  influenceRequest,
  MAX_BATCH_ROWS,
  MAX_QUERIES,
  type Row,
} from "./schema.ts";
import { stopwatch } from "./timing.ts";

/** A request as asked, whatever its format. */
interface Question {
  queries: Queries;
  /** How many queries are asked together; none where one is asked alone. */
  batch: number | undefined;
  topK: number;
  filter?: Filter | undefined;
}

const PATH = "/v1/indexes/:index/influence";

/** What /openapi.json says of the route. Not in the way of a request: every layer would cost it some microseconds. */
export const influenceDescription = new Hono().post(
  PATH,
  answers(
    "The most helpful and the most harmful training examples, of one query or of each of a batch.",
    influenceAnswers,
    [400, 404, 413, 415, 503, 507],
  ),
  requestBody(
    `At most ${MAX_BODY} bytes and ${MAX_QUERIES} queries. As ${FLOAT32_TYPE}: the R numbers of each query as little-endian ` +
      "float32; topK, and queries for a batch, in the query string.",
    influenceRequest,
    [JSON_TYPE, MSGPACK_TYPE],
    FLOAT32_TYPE,
  ),
  validated("param", indexParameters),
  validated("query", influenceParameters),
);

export const influence = new Hono<Environment>().post(PATH, async (c) => {
  const parameters: z.infer<typeof influenceParameters> = c.req.url.includes("?")
    ? checked(influenceParameters, queryParameters(c))
    : {};
  const watch = stopwatch(parameters.timing);
  const named = c.req.param("index");
  // The name of an open index has been checked.
  if (!isOpen(named)) checked(indexParameters, { index: named });
  const { queries, batch, topK, filter } = asked(await readQuestion(c, influenceRequest), parameters);
  watch?.lap("body");
  const index = await openIndex(hostOf(c), named);
  watch?.lap("load");
  const { gradients, stored } = await gradientsOf(index, queries);
  const bitmap = filter && bitmapOf(index, filter);
  watch?.lap("query");
  const found = await index.searcher.searchBatch(gradients, topK, bitmap);
  watch?.lap("search");
  if (watch) {
    for (const part of ["scan", "refine", "read"] as const) {
      watch.part(
        part,
        found.reduce((sum, { milliseconds }) => sum + milliseconds[part], 0),
      );
    }
  }
  const type = prefers(c, [JSON_TYPE, MSGPACK_TYPE]);
  const to = type === JSON_TYPE ? json : messagePack;
  beginBytes();
  to.beginMap(batch === undefined ? 2 + entriesOf(stored[0]) : 3);
  writeServed(to, index);
  to.next();
  to.name("topK");
  to.count(topK);
  to.next();
  if (batch === undefined) {
    writeLists(to, index, found[0], stored[0]);
  } else {
    to.name("answers");
    to.beginList(found.length);
    for (let at = 0; at < found.length; at++) {
      if (at > 0) to.next();
      to.beginMap(entriesOf(stored[at]));
      writeLists(to, index, found[at], stored[at]);
      to.endMap();
    }
    to.endList();
  }
  to.endMap();
  return send(type, endBytes(), watch?.headers());
});

type Given = Awaited<ReturnType<typeof readQuestion<typeof influenceRequest>>>;

/** Throws a Problem where the answer would be too long. */
function asked(given: Given, parameters: z.infer<typeof influenceParameters>): Question {
  const question = "raw" in given ? askedByParameters(given.raw, parameters) : askedByBody(given.value);
  const { batch = 1, topK } = question;
  if (batch * topK > MAX_BATCH_ROWS) {
    throw new Problem(
      "invalid-body",
      `topK: expected at most ${Math.floor(MAX_BATCH_ROWS / batch)} for ${batch} queries, got ${topK}; ask in parts.`,
    );
  }
  return question;
}

function askedByParameters(raw: Float32Array, parameters: z.infer<typeof influenceParameters>): Question {
  const { topK = DEFAULT_TOP_K, queries: batch } = parameters;
  return { queries: { raw, count: batch ?? 1 }, batch, topK };
}

function askedByBody({ gradient, query, gradients, queries: ids, topK, filter }: InfluenceRequest): Question {
  if (gradients) return { queries: { gradients, name: "gradients" }, batch: gradients.length, topK, filter };
  if (ids) return { queries: { ids }, batch: ids.length, topK, filter };
  return { queries: oneOf(gradient, query), batch: undefined, topK, filter };
}

/** How many entries writeLists writes. */
const entriesOf = (query: Row | undefined) => (query === undefined ? 6 : 7);

/** Writes the entries of a map that schema.ts calls Lists. */
function writeLists(to: Notation, index: OpenIndex, found: SearchAnswer, query: Row | undefined): void {
  if (query !== undefined) {
    to.entries({ query });
    to.next();
  }
  to.name("helpful");
  writeExamples(to, index, found.helpful);
  to.next();
  to.name("harmful");
  writeExamples(to, index, found.harmful);
  to.next();
  to.name("exact");
  to.flag(found.exact);
  to.next();
  to.name("recall");
  to.number(found.recall);
  to.next();
  to.name("survivors");
  to.count(found.survivors);
  to.next();
  to.name("rescored");
  to.count(found.rescored);
}
