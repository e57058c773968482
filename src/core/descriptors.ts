/** How an index is mixed, and what the kernel is told of it once: how a query is mixed, and where the rows lie. */
import { type KernelExports, MIXING, PLANE } from "./kernel/kernel.ts";
import { FILES, type Manifest, type MixingShape } from "./manifest.ts";
import { groupedBytes, type Mixing, placeEntries, spreadOf } from "./mixing.ts";
import type { CoarseLayout } from "./plane.ts";
import type { Addresses } from "./resident.ts";
import { CorruptIndexError } from "./source.ts";

/** How the index is mixed, null where it is not. Throws CorruptIndexError for a shape that none can have. */
export function mixingOf({ dimension, mixing }: Manifest): MixingShape | null {
  if (mixing === undefined) return null;
  const mixed = mixing.blocks.reduce((sum, width) => sum + width, 0);
  if (mixed === dimension && mixing.head < dimension) return mixing;
  const got = `blocks of ${mixed} coordinates and a head of ${mixing.head}`;
  throw new CorruptIndexError(FILES.manifest, `a mixing of R = ${dimension} coordinates`, got);
}

/** Lays out MIXING and what it names. */
export function placeMixing({ memory: { buffer } }: KernelExports, at: Addresses, head: number, mixing: Mixing): void {
  const { blocks, exponents, places } = mixing;
  new Uint32Array(buffer, at.widths, blocks.length).set(blocks);
  new Float64Array(buffer, at.factors, exponents.length).set(Float64Array.from(exponents, (exponent) => 2 ** exponent));
  new Uint32Array(buffer, at.places, places.length).set(places);
  placeEntries(mixing, new Int8Array(buffer, at.entries, groupedBytes(blocks)));
  const view = new DataView(buffer, at.mixing, MIXING.bytes);
  view.setFloat64(MIXING.spread, spreadOf(mixing), true);
  view.setUint32(MIXING.blocks, blocks.length, true);
  view.setUint32(MIXING.head, head, true);
  for (const name of ["widths", "factors", "places", "entries", "integers"] as const) {
    view.setUint32(MIXING[name], at[name], true);
  }
}

/** Lays out PLANE. */
export function placePlane(
  words: Uint32Array,
  at: Addresses,
  coarse: CoarseLayout,
  stride: number,
  head: number,
): void {
  const set = (offset: number, value: number) => {
    words[(at.plane + offset) / 4] = value;
  };
  set(PLANE.terms, at.coarse + coarse.termsAt);
  set(PLANE.codes, at.coarse + coarse.codesAt);
  set(PLANE.stride, stride);
  set(PLANE.head, head);
  set(PLANE.tailTerms, at.coarse + coarse.tailTermsAt);
  set(PLANE.tailCodes, at.coarse + coarse.tailCodesAt);
  set(PLANE.leftPlaces, at.leftPlaces);
  set(PLANE.leftPairs, at.leftPairs);
}
