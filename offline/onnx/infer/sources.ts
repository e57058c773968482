/** Operators that make values: from shapes, numbers, other types. */
import { minus, productOf } from "../dims.ts";
import { ELEMENT, integer } from "../graph.ts";
import { filledWith } from "../known.ts";
import { numbersOf } from "../tensor.ts";
import { forEach, type Infer, normalAxis } from "./context.ts";

const constantOfShape: Infer = (c) => {
  const target = c.constant(0);
  const shape = target ?? Array.from({ length: Number(c.input(0).shape[0]) }, () => c.unknown());
  const value = c.node.attributes.value;
  const tensor = typeof value === "object" && "tensor" in value ? value.tensor : null;
  const type = tensor?.dataType ?? ELEMENT.float32;
  const integral = type === ELEMENT.int64 || type === ELEMENT.int32 || type === ELEMENT.bool;
  return [{ type, shape, known: tensor && integral ? filledWith(numbersOf(tensor)[0], shape) : null }];
};

const range: Infer = (c) => {
  const [start, limit, delta] = [c.constant(0)?.[0], c.constant(1)?.[0], c.constant(2)?.[0]];
  const whole = typeof start === "number" && typeof limit === "number" && typeof delta === "number";
  const count = whole ? Math.max(Math.ceil((limit - start) / delta), 0) : null;
  const extent =
    count ?? (start !== undefined && limit !== undefined && delta === 1 ? minus(limit, start) : c.unknown());
  const known =
    whole && count !== null && count <= 4096 ? Array.from({ length: count }, (_, k) => start + k * delta) : null;
  return [{ type: c.input(0).type, shape: [extent], known }];
};

const cast: Infer = (c) => {
  const type = c.node.op === "CastLike" ? c.input(1).type : integer(c.node, "to", ELEMENT.float32);
  return [{ type, shape: c.input(0).shape, known: c.input(0).known, inner: c.input(0).batch?.inner ?? null }];
};

const shapeOf: Infer = (c) => {
  const { shape } = c.input(0);
  const cut = shape.slice(integer(c.node, "start", 0), integer(c.node, "end", shape.length));
  return [{ type: ELEMENT.int64, shape: [cut.length], known: cut }];
};

const size: Infer = (c) => [{ type: ELEMENT.int64, shape: [], known: [productOf(c.input(0).shape)] }];

const oneHot: Infer = (c) => {
  const indices = c.input(0);
  const axis = normalAxis(integer(c.node, "axis", -1), indices.shape.length + 1);
  const depth = c.constant(1)?.[0] ?? c.unknown();
  return [{ type: c.input(2).type, shape: [...indices.shape.slice(0, axis), depth, ...indices.shape.slice(axis)] }];
};

export const SOURCES: [string, Infer][] = [
  ["ConstantOfShape", constantOfShape],
  ["Range", range],
  ...forEach("Cast CastLike", cast),
  ["Shape", shapeOf],
  ["Size", size],
  ["OneHot", oneHot],
];
