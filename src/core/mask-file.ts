/**
 * mask.bin: the header (n: layers, dimension: R), then u32 kept positions, i32 places of those that are folded, and float32
 * directions, the layers' one after another. How many of each there are, the manifest's layers say.
 */
import { checkHeader, encodeHeader, HEADER_BYTES } from "./header.ts";
import type { ManifestLayer } from "./manifest.ts";
import type { Directions, Layer, MaskBlock } from "./mask.ts";
import { CorruptIndexError } from "./source.ts";

/** What the manifest says of a layer's mask. */
export type MaskShape = Pick<ManifestLayer, "name" | "offset" | "r" | "d" | "kept" | "parameters">;

/** The manifest's part: how many coordinates are kept where they are folded, and the extents of the directions. */
export function maskShapes(layers: readonly Layer[], blocks: readonly MaskBlock[]): MaskShape[] {
  return blocks.map(({ layer: name, offset, r, d, kept, directions, folded }) => ({
    name,
    offset,
    r,
    d,
    ...(folded ? { kept: kept.length } : {}),
    parameters: (layers.find((layer) => layer.name === name)?.parameters ?? []).map((parameter, index) => {
      const own = directions?.[index];
      return own ? { ...parameter, directions: extentsOf(own) } : parameter;
    }),
  }));
}

const extentsOf = ({ rows, columns, left, right }: Directions) => ({
  rows,
  columns,
  left: left.length / rows,
  right: right.length / columns,
});

export function encodeMask(blocks: readonly MaskBlock[]): Uint8Array {
  const dimension = blocks.reduce((sum, { r }) => sum + r, 0);
  const directions = blocks.flatMap((block) => (block.directions ?? []).flatMap((own) => (own ? [own] : [])));
  const integers = [...blocks.map(({ kept }) => kept), ...blocks.map(({ folded }) => folded ?? new Int32Array())];
  const floats = directions.flatMap(({ left, right }) => [left, right]);
  const numbers = [...integers, ...floats].reduce((sum, { length }) => sum + length, 0);
  const bytes = new Uint8Array(HEADER_BYTES + 4 * numbers);
  bytes.set(encodeHeader({ kind: "mask", n: blocks.length, dimension, stride: 0 }));
  const view = new DataView(bytes.buffer);
  let at = HEADER_BYTES;
  for (const list of integers) {
    for (const entry of list) {
      // Two's complement: a place that is subtracted is a negative number.
      view.setInt32(at, entry | 0, true);
      at += 4;
    }
  }
  for (const list of floats) {
    for (const entry of list) {
      view.setFloat32(at, entry, true);
      at += 4;
    }
  }
  return bytes;
}

/**
 * The blocks of a mask file for the layers that the manifest lists.
 * Throws CorruptIndexError if the header or the length does not fit them.
 */
export function decodeMask(bytes: Uint8Array, layers: readonly MaskShape[]): MaskBlock[] {
  const dimension = layers.reduce((sum, { r }) => sum + r, 0);
  checkHeader("mask.bin", bytes, { kind: "mask", n: layers.length, dimension, stride: 0 });
  const length = HEADER_BYTES + 4 * layers.reduce((sum, layer) => sum + numbersOf(layer), 0);
  if (bytes.length !== length) {
    throw new CorruptIndexError("mask.bin", `${length} bytes, as the manifest's layers demand`, `${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = HEADER_BYTES;
  const next = (read: (at: number) => number) => () => {
    at += 4;
    return read(at - 4);
  };
  const u32 = next((from) => view.getUint32(from, true));
  const i32 = next((from) => view.getInt32(from, true));
  const f32 = next((from) => view.getFloat32(from, true));
  const kept = layers.map((layer) => Uint32Array.from({ length: layer.kept ?? layer.r }, u32));
  const folded = layers.map((layer) =>
    layer.kept === undefined ? null : Int32Array.from({ length: layer.kept }, i32),
  );
  return layers.map(({ name, offset, r, d, parameters }, index) => {
    const directions = parameters.map(({ directions: own }) => {
      if (!own) return null;
      const left = Float32Array.from({ length: own.rows * own.left }, f32);
      const right = Float32Array.from({ length: own.columns * own.right }, f32);
      return { rows: own.rows, columns: own.columns, left, right };
    });
    const places = folded[index];
    return {
      layer: name,
      offset,
      d,
      r,
      kept: kept[index] ?? new Uint32Array(),
      ...(directions.some((own) => own !== null) ? { directions } : {}),
      ...(places ? { folded: places } : {}),
    };
  });
}

const numbersOf = ({ r, kept, parameters }: MaskShape): number =>
  (kept === undefined ? r : 2 * kept) +
  parameters.reduce((sum, { directions: own }) => sum + (own ? own.rows * own.left + own.columns * own.right : 0), 0);
