/** Which part of the training set: influence summed over the values of a column, by one scan of every row. */
import { Hono } from "hono";
import { answer, FLOAT32_TYPE, JSON_TYPE, MAX_BODY, MSGPACK_TYPE } from "./body.ts";
import { bitmapOf, groupsOf } from "./columns.ts";
import { answers, requestBody, validated } from "./describe.ts";
import { type Environment, hostOf } from "./environment.ts";
import { openIndex } from "./isolate.ts";
import { Problem } from "./problem.ts";
import { gradientsOf, oneOf, readQuestion } from "./question.ts";
import {
  type Group,
  type GroupsAnswer,
  groupsAnswer,
  groupsParameters,
  groupsRequest,
  indexParameters,
} from "./schema.ts";
import { stopwatch } from "./timing.ts";

export const groups = new Hono<Environment>().post(
  "/v1/indexes/:index/groups",
  answers(
    "Influence summed over all training examples by the values of a column.",
    groupsAnswer,
    [400, 404, 413, 415, 503, 507],
  ),
  requestBody(
    `At most ${MAX_BODY} bytes. As ${FLOAT32_TYPE}: the R numbers as little-endian float32, column in the query string.`,
    groupsRequest,
    [JSON_TYPE, MSGPACK_TYPE],
    FLOAT32_TYPE,
  ),
  validated("param", indexParameters),
  validated("query", groupsParameters),
  async (c) => {
    const watch = stopwatch(c.req.valid("query").timing);
    const given = await readQuestion(c, groupsRequest);
    const column = "raw" in given ? c.req.valid("query").column : given.value.column;
    if (column === undefined) {
      throw new Problem(
        "invalid-parameter",
        "column: expected a name in the query string, got none; add ?column=label.",
      );
    }
    watch?.lap("body");
    const index = await openIndex(hostOf(c), c.req.valid("param").index);
    watch?.lap("load");
    const asked = "raw" in given ? { raw: given.raw, count: 1 } : oneOf(given.value.gradient, given.value.query);
    const { gradients, stored } = await gradientsOf(index, asked);
    const filter = "raw" in given ? undefined : given.value.filter;
    const bitmap = filter && bitmapOf(index, filter);
    const { values, groups } = groupsOf(index, column);
    watch?.lap("query");
    const { sum, count, error } = await index.searcher.sumGroups(gradients[0], groups, values.length, bitmap);
    watch?.lap("scan");
    const summed: Group[] = values
      .map((value, group) => ({
        value,
        count: count[group],
        sum: sum[group],
        mean: sum[group] / count[group],
        error: error[group],
      }))
      .filter((group) => group.count > 0)
      .sort((one, other) => one.sum - other.sum);
    const { name, version } = index.manifest;
    const result: GroupsAnswer = {
      index: { name, version },
      ...(stored.length === 0 ? {} : { query: stored[0] }),
      column,
      rows: count.reduce((all, some) => all + some, 0),
      groups: summed,
    };
    return answer(c, result, { ...watch?.headers(), "Cache-Control": "no-store" });
  },
);
