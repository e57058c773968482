/** Tensors as ONNX files hold them: reading the numbers of small ones, and making constants. */
import type { onnx } from "onnx-proto";
import { ELEMENT, elementName } from "./graph.ts";

export const extents = (tensor: onnx.ITensorProto): number[] => (tensor.dims ?? []).map(Number);

export const isExternal = (tensor: onnx.ITensorProto): boolean => (tensor.externalData ?? []).length > 0;

/** The entries of a tensor as numbers. Throws if its data lie outside the file or its type is not numeric. */
export function numbersOf(tensor: onnx.ITensorProto): number[] {
  const type = tensor.dataType ?? 0;
  if (isExternal(tensor))
    throw new Error(`tensor ${tensor.name}: expected its data inside the model, got external data`);
  const raw = tensor.rawData;
  if (!raw || raw.length === 0) {
    if (type === ELEMENT.int64 || type === ELEMENT.uint64) return (tensor.int64Data ?? []).map(Number);
    if (type === ELEMENT.float32) return tensor.floatData ?? [];
    if (type === ELEMENT.float64) return tensor.doubleData ?? [];
    if (type === ELEMENT.float16) return (tensor.int32Data ?? []).map(halfToNumber);
    return tensor.int32Data ?? [];
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const read = (bytes: number, at: (offset: number) => number) =>
    Array.from({ length: raw.byteLength / bytes }, (_, index) => at(index * bytes));
  switch (type) {
    case ELEMENT.float32:
      return read(4, (offset) => view.getFloat32(offset, true));
    case ELEMENT.float64:
      return read(8, (offset) => view.getFloat64(offset, true));
    case ELEMENT.float16:
      return read(2, (offset) => halfToNumber(view.getUint16(offset, true)));
    case ELEMENT.int64:
      return read(8, (offset) => Number(view.getBigInt64(offset, true)));
    case ELEMENT.int32:
      return read(4, (offset) => view.getInt32(offset, true));
    case ELEMENT.bool:
    case ELEMENT.uint8:
      return read(1, (offset) => view.getUint8(offset));
    case ELEMENT.int8:
      return read(1, (offset) => view.getInt8(offset));
    default:
      throw new Error(`tensor ${tensor.name}: expected a numeric constant, got ${elementName(type)}`);
  }
}

function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The largest int64, "to the end" of a slice, is 2⁶³ as a number: one too many. */
const int64 = (entry: number): bigint => (entry >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(entry));

/** A constant of the given element type (float32, float64, int64, int32 or bool), little-endian. */
export function tensorOf(type: number, shape: number[], entries: ArrayLike<number>): onnx.ITensorProto {
  const width = type === ELEMENT.int64 || type === ELEMENT.float64 ? 8 : type === ELEMENT.bool ? 1 : 4;
  const rawData = new Uint8Array(entries.length * width);
  const view = new DataView(rawData.buffer);
  for (let index = 0; index < entries.length; index++) {
    const entry = entries[index] ?? 0;
    if (type === ELEMENT.float32) view.setFloat32(4 * index, entry, true);
    else if (type === ELEMENT.float64) view.setFloat64(8 * index, entry, true);
    else if (type === ELEMENT.int64) view.setBigInt64(8 * index, int64(entry), true);
    else if (type === ELEMENT.int32) view.setInt32(4 * index, entry, true);
    else if (type === ELEMENT.bool) view.setUint8(index, entry);
    else throw new Error(`constant: expected float32, float64, int64, int32 or bool, got ${elementName(type)}`);
  }
  return { dims: shape, dataType: type, rawData };
}
