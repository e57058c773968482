/** What is published: the list, one index whole, its mask and its gradient graph. */
import { Hono } from "hono";
import { answer, FLOAT32_TYPE, JSON_TYPE, prefers } from "./body.ts";
import { cached, unchanged } from "./caching.ts";
import { FILES, type Manifest } from "./core/manifest.ts";
import { decodeMask } from "./core/mask-file.ts";
import { answers, answersBytes, validated } from "./describe.ts";
import { type Environment, hostOf } from "./environment.ts";
import { servedVersion } from "./isolate.ts";
import { Problem, problemOf } from "./problem.ts";
import {
  type IndexDescription,
  type IndexesAnswer,
  indexesAnswer,
  indexParameters,
  indexSchema,
  MAX_TOP_K,
  maskAnswer,
  versionParameter,
} from "./schema.ts";
import { bucketSource, indexNames, readWhole, wholeBody } from "./store.ts";

const revalidated = { "Cache-Control": "no-cache" };

export const indexes = new Hono<Environment>()
  .get("/v1/indexes", answers("All published indexes.", indexesAnswer, [503]), async (c) => {
    const all: IndexesAnswer = { indexes: [], unavailable: [] };
    for (const name of await indexNames(c.env.BUCKET)) {
      try {
        const manifest = await servedVersion(hostOf(c), name);
        const { title, version, n, dimension, queries, loss, layers } = manifest;
        const self = `/v1/indexes/${name}`;
        all.indexes.push({ name, title, version, n, dimension, queries, loss, layers: layers.length, self });
      } catch (error) {
        all.unavailable.push({ name, detail: problemOf(error).message });
      }
    }
    return answer(c, all, revalidated);
  })
  .get(
    "/v1/indexes/:index",
    answers("One index: what it was made of, its layers and their blocks, its files.", indexSchema, [400, 404, 503]),
    validated("param", indexParameters),
    async (c) => {
      const manifest = await servedVersion(hostOf(c), c.req.valid("param").index);
      return answer(c, describeIndex(manifest), revalidated);
    },
  )
  .get(
    "/v1/indexes/:index/mask",
    answers(
      "The kept coordinates of each layer, the directions that they are seen in, and their folding. As application/octet-stream: " +
        "mask.bin, which FORMAT.md draws; without directions and folding, a header of 64 bytes, then the R positions as " +
        "little-endian u32, one layer's block after another.",
      maskAnswer,
      [400, 404, 503],
    ),
    validated("param", indexParameters),
    validated("query", versionParameter),
    async (c) => {
      const manifest = await servedVersion(hostOf(c), c.req.valid("param").index);
      const headers = cached(manifest, c.req.valid("query").version, FILES.mask);
      if (unchanged(c, headers)) return c.body(null, 304, headers);
      const { BUCKET, kernel } = c.env;
      const source = bucketSource(BUCKET, manifest.name, manifest.version);
      const bytes = await readWhole(source, kernel, manifest, FILES.mask);
      if (prefers(c, [JSON_TYPE, FLOAT32_TYPE]) === FLOAT32_TYPE) {
        return c.body(new Uint8Array(bytes), 200, { ...headers, "Content-Type": FLOAT32_TYPE, Vary: "Accept" });
      }
      const layers = decodeMask(bytes, manifest.layers).map(({ layer, offset, d, r, kept, folded, directions }) => ({
        name: layer,
        offset,
        d,
        r,
        kept: Array.from(kept),
        ...(folded ? { folded: Array.from(folded) } : {}),
        ...(directions
          ? {
              directions: directions.map(
                (own) => own && { ...own, left: Array.from(own.left), right: Array.from(own.right) },
              ),
            }
          : {}),
      }));
      return answer(c, { dimension: manifest.dimension, layers }, headers);
    },
  )
  .get(
    "/v1/indexes/:index/gradient.onnx",
    answersBytes(
      "The gradient graph: inputs and target to loss and compressed gradient.",
      "application/onnx",
      [404, 503],
    ),
    validated("param", indexParameters),
    validated("query", versionParameter),
    async (c) => {
      const manifest = await servedVersion(hostOf(c), c.req.valid("param").index);
      const file = manifest.files[FILES.gradientGraph];
      if (!file) {
        throw new Problem(
          "missing-file",
          `${FILES.gradientGraph}: expected index ${manifest.name} to carry a gradient graph, got none; compress with …/mask.`,
        );
      }
      const headers = cached(manifest, c.req.valid("query").version, FILES.gradientGraph);
      if (unchanged(c, headers)) return c.body(null, 304, headers);
      return c.body(await wholeBody(c.env.BUCKET, c.env.kernel, manifest, FILES.gradientGraph), 200, {
        ...headers,
        "Content-Type": "application/onnx",
        "Content-Length": String(file.bytes),
      });
    },
  );

function describeIndex(manifest: Manifest): IndexDescription {
  const self = `/v1/indexes/${manifest.name}`;
  const links: Record<string, string> = {
    self,
    influence: `${self}/influence`,
    groups: `${self}/groups`,
    mask: `${self}/mask`,
  };
  if (manifest.files[FILES.gradientGraph]) links.gradientGraph = `${self}/gradient.onnx?version=${manifest.version}`;
  if (manifest.queries > 0) links.queries = `${self}/queries`;
  return { ...manifest, maxTopK: MAX_TOP_K, links };
}
