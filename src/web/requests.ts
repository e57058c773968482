/** What the page asks of the API. Every failure becomes an Error with one sentence for a person. */
import type { IndexDescription, IndexesAnswer, InfluenceAnswer, QueriesAnswer } from "../schema.ts";

async function ask(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Error("The server cannot be reached. Is it running?");
  }
  if (response.ok) return response;
  const problem: { detail?: unknown } = await response.json().catch(() => ({}));
  throw new Error(typeof problem.detail === "string" ? problem.detail : `The server answered ${response.status}.`);
}

export async function readIndexes(): Promise<IndexesAnswer> {
  return (await ask("/v1/indexes", {})).json();
}

export async function readIndex(name: string): Promise<IndexDescription> {
  return (await ask(`/v1/indexes/${name}`, {})).json();
}

/** One page of stored queries. `filter`: parameters of the route. */
export async function readQueries(
  index: string,
  filter: Record<string, string>,
  signal: AbortSignal,
): Promise<QueriesAnswer> {
  return (await ask(`/v1/indexes/${index}/queries?${new URLSearchParams(filter)}`, { signal })).json();
}

/** Milliseconds by phase, as the server measured them, and of the whole round trip, as the browser did. */
export interface Timings {
  server: Map<string, number>;
  roundTrip: number;
}

export async function askInfluence(
  index: string,
  query: string,
  topK: number,
  signal: AbortSignal,
): Promise<{ answer: InfluenceAnswer; timings: Timings }> {
  const started = performance.now();
  const response = await ask(`/v1/indexes/${index}/influence?timing=true`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query, topK }),
    signal,
  });
  const answer: InfluenceAnswer = await response.json();
  const roundTrip = performance.now() - started;
  const phases = (response.headers.get("Server-Timing") ?? "").matchAll(/([\w-]+);dur=([\d.e-]+)/g);
  return {
    answer,
    timings: { server: new Map(Array.from(phases, ([, name, dur]) => [name, Number(dur)])), roundTrip },
  };
}
