/**
 * What this isolate holds: the indexes that are open, within a budget of bytes, the least recently used one closed first.
 *
 * One load per index however many requests wait. A request's promise must not be awaited by another (the runtime ties it, and
 * the I/O under it, to the request that made it), so requests share values only: the one that loads leaves its progress and
 * its result in the slot, and the others look there, each on its own timer. The load is also handed to `waitUntil`, so it
 * goes on when its client leaves; if it dies all the same, its `beat` stops and the next request takes over.
 *
 * An open index is served while its pointer is looked at again in the background, at most once in POINTER_AGE. A new version is
 * loaded beside the old one and then replaces it; if it cannot be loaded, the old one goes on.
 */
import type { Bucket } from "./bucket.ts";
import type { Kernel } from "./core/kernel/kernel.ts";
import { type Manifest, type Pointer, pointerKey } from "./core/manifest.ts";
import { type Fit, leastBytes, type OpenBackend, type OpenIndex, openVersion, whatFits } from "./open-index.ts";
import { Problem } from "./problem.ts";
import { readManifest, readPointer } from "./store.ts";

/** What a request lends the cache: the bucket, the budget, the search, and a way to outlive the request. */
export interface Host {
  bucket: Bucket;
  /** Bytes that all open indexes together may hold. */
  budget: number;
  kernel: Kernel;
  openBackend: OpenBackend | undefined;
  waitUntil(promise: Promise<unknown>): void;
}

/** Milliseconds: how old a pointer may be, how long a failed load is not repeated, when a load without progress is dead. */
export const POINTER_AGE = 3_000;
const RETRY_AGE = 10_000;
const STALL = 15_000;
/** A waiting request looks this often. */
const POLL = 5;

interface Slot {
  name: string;
  open?: OpenIndex;
  /** The pointer's etag as of `checkedAt`, once its version is open. */
  etag?: string;
  checkedAt: number;
  usedAt: number;
  /** Bytes promised to a load that is under way. */
  reserved: number;
  loading?: { beat: number };
  failure?: { manifestSha256: string | undefined; at: number; error: unknown };
}

const slots = new Map<string, Slot>();
let uses = 0;

/** The open index of that name; loads it first where that is needed. Throws Problem or CorruptIndexError. */
export async function openIndex(host: Host, name: string): Promise<OpenIndex> {
  const slot = slots.get(name) ?? { name, checkedAt: 0, usedAt: 0, reserved: 0 };
  slots.set(name, slot);
  slot.usedAt = ++uses;
  const asked = Date.now();
  for (let now = asked; ; now = Date.now()) {
    if (slot.open) {
      if (now - slot.checkedAt > POINTER_AGE && !alive(slot, now)) host.waitUntil(refresh(host, slot));
      return slot.open;
    }
    const failure = slot.failure;
    if (failure && (failure.at >= asked || now - failure.at < RETRY_AGE)) throw failure.error;
    if (alive(slot, now)) {
      await new Promise((wake) => setTimeout(wake, POLL));
    } else {
      const load = refresh(host, slot);
      host.waitUntil(load);
      await load;
    }
  }
}

/** Whether an index of that name is open. */
export const isOpen = (name: string): boolean => slots.get(name)?.open !== undefined;

/** The manifest of the version that is served: of the open index, or, where none is open, of the one that the pointer names. */
export async function servedVersion(host: Host, name: string): Promise<Manifest> {
  if (slots.get(name)?.open) return (await openIndex(host, name)).manifest;
  const found = await readPointer(host.bucket, name, undefined);
  if (found === null || found === "unchanged") throw unknownIndex(name);
  return await readManifest(host.bucket, name, found.pointer);
}

/** Bytes held by all open indexes. */
export function heldBytes(): number {
  let sum = 0;
  for (const slot of slots.values()) sum += slot.open?.bytes ?? 0;
  return sum;
}

function alive(slot: Slot, now: number): boolean {
  return slot.loading !== undefined && now - slot.loading.beat < STALL;
}

/** Brings a slot up to date with its pointer. Never rejects: what goes wrong is left in the slot. */
async function refresh(host: Host, slot: Slot): Promise<void> {
  const token = { beat: Date.now() };
  slot.loading = token;
  slot.checkedAt = token.beat;
  let manifestSha256: string | undefined;
  try {
    const found = await readPointer(host.bucket, slot.name, slot.etag);
    if (found === "unchanged") return;
    if (found === null) {
      slots.delete(slot.name);
      delete slot.open;
      throw unknownIndex(slot.name);
    }
    manifestSha256 = found.pointer.manifestSha256;
    const known = slot.failure;
    if (known?.manifestSha256 === manifestSha256 && token.beat - known.at < RETRY_AGE) return;
    const opened = await load(host, slot, found.pointer, token);
    if (slot.loading !== token) return;
    slot.open = opened;
    slot.etag = found.etag;
    delete slot.failure;
  } catch (error) {
    if (slot.loading !== token) return;
    slot.failure = { manifestSha256, at: Date.now(), error };
    if (slot.open) console.error(`${slot.name}: version ${slot.open.manifest.version} goes on:`, error);
  } finally {
    if (slot.loading === token) {
      delete slot.loading;
      slot.reserved = 0;
    }
  }
}

export function unknownIndex(name: string): Problem {
  return new Problem(
    "unknown-index",
    `index: expected the name of a published index, got "${name}" (no ${pointerKey(name)}); GET /v1/indexes lists them.`,
  );
}

async function load(host: Host, slot: Slot, pointer: Pointer, token: { beat: number }): Promise<OpenIndex> {
  const before = slot.open?.manifest;
  const manifest = await readManifest(host.bucket, slot.name, pointer);
  const fitted = makeRoom(host.budget, slot, manifest);
  slot.reserved = fitted.bytes;
  const progress = () => {
    token.beat = Date.now();
  };
  try {
    return await openVersion(host, manifest, fitted, progress);
  } catch (error) {
    // The old version had to go to make room, and the new one is no good: the old one is still in the bucket.
    if (before && !slot.open)
      slot.open = await openVersion(host, before, makeRoom(host.budget, slot, before), progress);
    throw error;
  }
}

/**
 * Closes the least recently used of the other indexes until `manifest` fits beside the rest, and the version it replaces if both
 * do not fit at once. Returns what of it is to be held. Throws 507 when it would not fit even alone.
 */
function makeRoom(budget: number, slot: Slot, manifest: Manifest): Fit {
  const least = leastBytes(manifest);
  if (least > budget) {
    const r = Math.floor((manifest.dimension * budget) / least);
    const n = Math.floor((manifest.n * budget) / least);
    throw new Problem(
      "insufficient-memory",
      `index ${manifest.name}: expected at most ${budget} bytes resident (RESIDENT_BYTES), got ${least} for n = ${manifest.n} and ` +
        `R = ${manifest.dimension}; build it with R of about ${r} or with about ${n} examples, or serve it on Node.`,
    );
  }
  const others = [...slots.values()].filter((other) => other !== slot).sort((a, b) => a.usedAt - b.usedAt);
  let available = budget;
  for (const other of others) available -= (other.open?.bytes ?? 0) + other.reserved;
  for (const other of others) {
    if (available >= least) break;
    available += other.open?.bytes ?? 0;
    delete other.open;
    delete other.etag;
  }
  // Loads that are under way hold what they reserved; this one then takes the least there is.
  const fitted = whatFits(manifest, Math.max(available, least));
  if (slot.open && fitted.bytes > available - slot.open.bytes) delete slot.open;
  return fitted;
}
