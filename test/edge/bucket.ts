/** The synthetic indexes in the real local R2, and requests to the Worker under test. */
import { env, exports } from "cloudflare:workers";
import { inject, vi } from "vitest";
import { type FILES, fileKey, pointerKey } from "../../src/core/manifest.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Keys of the bucket and base64 of the objects. `newer` and `mixed` are further versions of `digits`. */
    published: Record<"digits" | "newer" | "mixed" | "words", Record<string, string>>;
  }
}
declare global {
  namespace Cloudflare {
    interface Env {
      BUCKET: R2Bucket;
      RESIDENT_BYTES: string;
    }
    interface GlobalProps {
      mainModule: typeof import("../../src/worker.ts");
    }
  }
}

export type Which = "digits" | "newer" | "mixed" | "words";
export type File = (typeof FILES)[keyof typeof FILES];

const decode = (base64: string) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const nameOf = (which: Which) => (which === "words" ? "words" : "digits");

/** The object under a key of an index, as published. */
function objectOf(which: Which, key: string): Uint8Array {
  const base64 = inject("published")[which][key];
  if (base64 === undefined) throw new Error(`${key}: not an object of ${which}`);
  return decode(base64);
}

/** The version that an index has. */
export function versionOf(which: Which): string {
  return JSON.parse(new TextDecoder().decode(objectOf(which, pointerKey(nameOf(which))))).version;
}

/** The key of a file of an index, and its bytes as published. */
export const keyOf = (which: Which, file: File) => fileKey(nameOf(which), versionOf(which), file);
export const fileOf = (which: Which, file: File) => objectOf(which, keyOf(which, file));

/** Puts an index into the bucket, the pointer last. `alter` may change or drop (null) an object on its way. */
export async function publish(
  which: Which,
  alter: (key: string, bytes: Uint8Array) => Uint8Array | null = (_, bytes) => bytes,
): Promise<void> {
  const pointer = pointerKey(nameOf(which));
  const files = Object.keys(inject("published")[which]).filter((key) => key !== pointer);
  for (const key of [...files, pointer]) {
    const altered = alter(key, objectOf(which, key));
    if (altered) await env.BUCKET.put(key, altered);
  }
}

/** A request to the Worker. */
export function ask(path: string, init?: RequestInit): Promise<Response> {
  return exports.default.fetch(new Request(`http://edge.test${path}`, init));
}

/** A question to an index, as JSON. */
export const askInfluence = (index: string, body: unknown) => post(`/v1/indexes/${index}/influence`, body);
export const askGroups = (index: string, body: unknown) => post(`/v1/indexes/${index}/groups`, body);

export function post(path: string, body: unknown): Promise<Response> {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Moves the Worker's calendar on, past every age that it waits for. */
export function laterBy(milliseconds: number): void {
  vi.setSystemTime(Date.now() + milliseconds);
}

/** Empties the bucket and makes the Worker let go of what it holds. */
export async function startAfresh(): Promise<void> {
  for (const { key } of (await env.BUCKET.list()).objects) await env.BUCKET.delete(key);
  for (const name of ["digits", "words"]) {
    for (let status = 200; status !== 404; ) {
      laterBy(60_000);
      status = (await askInfluence(name, { query: "none" })).status === 404 ? await statusOfIndex(name) : 0;
    }
  }
}

const statusOfIndex = async (name: string) => (await ask(`/v1/indexes/${name}`)).status;
