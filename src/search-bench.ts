/** A Worker that does nothing but search, for `npm run bench -- search`: an index that lies behind plain HTTP. */
import { largeChunks } from "./chunks.ts";
import { manifestSchema } from "./core/manifest.ts";
import { openSearcher, type Searcher } from "./core/search.ts";
import type { IndexSource, Part } from "./core/source.ts";
import { workerKernel } from "./kernel.ts";

let searcher: Searcher | undefined;

/** An index whose files are answered by `origin`, whole or by range. */
function httpSource(origin: string): IndexSource {
  const ask = async (file: string, headers: Record<string, string>) => {
    const response = await fetch(`${origin}/${file}`, { headers });
    const { body } = response;
    if (!response.ok || body === null) throw new Error(`${file}: expected a file, got ${response.status}`);
    return { response, body };
  };
  return {
    stream: async (file, part) => largeChunks((await ask(file, part === undefined ? {} : rangeOf(part))).body),
    async range(file, offset, length) {
      const { response } = await ask(file, rangeOf({ offset, length }));
      return new Uint8Array(await response.arrayBuffer());
    },
  };
}

const rangeOf = ({ offset, length }: Part) => ({ range: `bytes=${offset}-${offset + length - 1}` });

export default {
  /**
   * `/search?count=N` with float32 queries as its body searches N times, taking the queries in turn, and answers the last; `/batch`
   * searches them all at once; `/open?origin=URL&budget=BYTES&count=N` loads the index first; `/stream?origin=URL&file=NAME…` only reads files.
   */
  async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/stream") {
      const source = httpSource(searchParams.get("origin") ?? "");
      let bytes = 0;
      for (const file of searchParams.getAll("file"))
        for await (const chunk of await source.stream(file)) bytes += chunk.length;
      return Response.json({ bytes });
    }
    if (pathname === "/open") {
      const origin = searchParams.get("origin") ?? "";
      const manifest = manifestSchema.parse(await (await fetch(`${origin}/manifest.json`)).json());
      searcher = await openSearcher(manifest, httpSource(origin), workerKernel(), Number(searchParams.get("budget")));
    }
    if (searcher === undefined) return new Response("open an index first", { status: 409 });
    const values = new Float32Array(await request.arrayBuffer());
    const queries = Array.from({ length: values.length / searcher.dimension }, (_, query) =>
      values.slice(query * searcher!.dimension, (query + 1) * searcher!.dimension),
    );
    if (pathname === "/batch") return Response.json((await searcher.searchBatch(queries, 10)).at(-1));
    let answer = null;
    for (let round = 0; round < Number(searchParams.get("count")); round++) {
      answer = await searcher.search(queries[round % queries.length], 10);
    }
    return Response.json(answer);
  },
};
