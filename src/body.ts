/** Request bodies and answers in the three formats of the API: JSON, MessagePack, raw little-endian float32. */
import type { Context } from "hono";
import { accepts } from "hono/accepts";
import { Packr } from "msgpackr";
import { checkNesting } from "./msgpack-check.ts";
import { Problem, show } from "./problem.ts";

export const JSON_TYPE = "application/json";
export const MSGPACK_TYPE = "application/msgpack";
export const FLOAT32_TYPE = "application/octet-stream";

/** Bytes of the largest body: a gradient of 100,000 numbers in JSON is about 2 MB. */
export const MAX_BODY = 4_000_000;

/** Records would be read by generated code, which Workers forbid: plain maps only. */
export const packr = new Packr({ useRecords: false });

export type Body = { kind: "value"; value: unknown } | { kind: "float32"; bytes: Uint8Array };

/** The body, decoded as its Content-Type says. Throws a Problem: 400, 413 or 415. */
export async function readBody(c: Context): Promise<Body> {
  const type = typeOf(c.req.header("content-type") ?? "");
  const bytes = new Uint8Array(await bytesOf(c.req.raw));
  if (type === FLOAT32_TYPE) return { kind: "float32", bytes };
  return { kind: "value", value: type === JSON_TYPE ? parseJson(bytes) : parseMsgpack(bytes) };
}

/** The format that a Content-Type names. Throws a Problem: 415. */
function typeOf(named: string): typeof JSON_TYPE | typeof MSGPACK_TYPE | typeof FLOAT32_TYPE {
  const type = named === FLOAT32_TYPE ? named : named.split(";")[0].trim().toLowerCase();
  if (type === JSON_TYPE || type === MSGPACK_TYPE || type === FLOAT32_TYPE) return type;
  const types = `${JSON_TYPE}, ${MSGPACK_TYPE} or ${FLOAT32_TYPE}`;
  const got = type === "" ? "none" : show(type);
  throw new Problem("unsupported-media-type", `Content-Type: expected ${types}, got ${got}; name the body's format.`, {
    "Accept-Post": `${JSON_TYPE}, ${MSGPACK_TYPE}, ${FLOAT32_TYPE}`,
  });
}

/** The whole body, of at most MAX_BODY bytes, whether Content-Length says how many or not. Throws a Problem: 413. */
function bytesOf(request: Request): Promise<ArrayBuffer> {
  const announced = request.headers.get("content-length");
  // The runtime holds a body to the length it announced; without one, reading stops at the limit.
  if (announced === null) return readLimited(request.body);
  if (!(Number(announced) <= MAX_BODY)) throw tooLarge(announced);
  return request.arrayBuffer();
}

async function readLimited(body: ReadableStream<Uint8Array> | null): Promise<ArrayBuffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    length += chunk.length;
    if (length > MAX_BODY) throw tooLarge("more");
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes.buffer;
}

function tooLarge(got: string): Problem {
  return new Problem(
    "body-too-large",
    `body: expected at most ${MAX_BODY} bytes, got ${got}; send float32 or MessagePack.`,
  );
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch (error) {
    throw new Problem("invalid-body", `body: expected JSON, got ${quoted(error)}; JSON has no NaN and no Infinity.`);
  }
}

function parseMsgpack(bytes: Uint8Array): unknown {
  try {
    checkNesting(bytes);
    return packr.unpack(bytes);
  } catch (error) {
    throw new Problem("invalid-body", `body: expected MessagePack, got ${quoted(error)}; encode one map.`);
  }
}

function quoted(error: unknown): string {
  return show(error instanceof Error ? error.message : String(error));
}

/** The one of `types` that the request's Accept prefers; the first where it has no preference. */
export function prefers<Type extends string>(c: Context, types: readonly [Type, ...Type[]]): Type {
  const accept = c.req.header("Accept");
  if (accept === undefined || accept === "*/*") return types[0];
  for (const type of types) if (type === accept) return type;
  const chosen = accepts(c, { header: "Accept", supports: [...types], default: types[0] });
  return types.find((type) => type === chosen) ?? types[0];
}

/** The answer as JSON, or as MessagePack where Accept prefers it. */
export function answer(c: Context, value: object, headers: Record<string, string> = {}): Response {
  const type = prefers(c, [JSON_TYPE, MSGPACK_TYPE]);
  return send(type, type === MSGPACK_TYPE ? new Uint8Array(packr.pack(value)) : JSON.stringify(value), headers);
}

/** A body of that type, with these headers; with none for a POST, whose answers no cache stores (RFC 9110, 9.3.3). */
export function send(
  type: typeof JSON_TYPE | typeof MSGPACK_TYPE,
  body: string | Uint8Array<ArrayBuffer>,
  headers?: Record<string, string>,
): Response {
  // Not c.body, which sets each header by a call into the runtime.
  return new Response(body, headers === undefined ? TYPED[type] : { headers: headersOf(type, headers) });
}

const headersOf = (type: string, headers: Record<string, string>) => ({
  "Content-Type": type,
  Vary: "Accept",
  ...headers,
});

/** Converted once: the runtime takes some 9 µs for each header that an answer brings (measured in workerd). */
const TYPED = {
  [JSON_TYPE]: { headers: new Headers({ "Content-Type": JSON_TYPE }) },
  [MSGPACK_TYPE]: { headers: new Headers({ "Content-Type": MSGPACK_TYPE }) },
};
