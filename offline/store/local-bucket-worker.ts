/** Local R2 over HTTP, for local-bucket.ts: the path is the key. A Worker has the bucket at hand, and bodies pass through it as they come. */

/** What is used of an R2Bucket, in the types of this folder's runtime. */
interface R2 {
  head(key: string): Promise<{ size: number } | null>;
  get(key: string): Promise<{ body: ReadableStream } | null>;
  put(key: string, body: ReadableStream | null): Promise<unknown>;
  delete(key: string): Promise<void>;
  list(options: { prefix: string; cursor?: string | undefined }): Promise<{
    objects: { key: string; size: number; uploaded: Date }[];
    cursor?: string;
  }>;
}

const missing = () => new Response(null, { status: 404 });

async function listed(bucket: R2, prefix: string) {
  const objects = [];
  let cursor: string | undefined;
  do {
    const page = await bucket.list({ prefix, cursor });
    objects.push(...page.objects.map(({ key, size, uploaded }) => ({ key, bytes: size, uploaded })));
    cursor = page.cursor;
  } while (cursor !== undefined);
  return objects;
}

async function answer(request: Request, bucket: R2): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  const key = decodeURIComponent(pathname.slice(1));
  if (request.method === "PUT") {
    const from = searchParams.get("from");
    const source = from === null ? request : await bucket.get(from);
    if (source === null) return missing();
    await bucket.put(key, source.body);
    return new Response(null, { status: 204 });
  }
  if (request.method === "DELETE") {
    await bucket.delete(key);
    return new Response(null, { status: 204 });
  }
  const prefix = searchParams.get("prefix");
  if (prefix !== null) return Response.json(await listed(bucket, prefix));
  if (searchParams.has("size")) {
    const object = await bucket.head(key);
    return object === null ? missing() : Response.json(object.size);
  }
  const object = await bucket.get(key);
  return object === null ? missing() : new Response(object.body);
}

export default {
  /** 200 or 204; 404 where there is no such object, 500 and why where the bucket failed. */
  async fetch(request: Request, { BUCKET }: { BUCKET: R2 }): Promise<Response> {
    try {
      return await answer(request, BUCKET);
    } catch (error) {
      return new Response(error instanceof Error ? error.message : String(error), { status: 500 });
    }
  },
};
