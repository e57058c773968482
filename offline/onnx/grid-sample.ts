/** GridSample as gathers of the entries around each point, weighted by their distance: bilinear or nearest, on images. */

import { productOf } from "./dims.ts";
import { ELEMENT, integer, type Node, text, type Value, where } from "./graph.ts";
import type { Operators } from "./operators.ts";

const unsupported = (node: Node, got: string) =>
  new Error(
    `${where(node)}: expected bilinear or nearest sampling of images of a fixed size with padding zeros or border, got ${got}; use one of those`,
  );

/** x [B, C, H, W], grid [B, h, w, 2] of (x, y) in −1 … 1 → [B, C, h, w]. */
export function gridSample(b: Operators, node: Node): Value {
  const [x, grid] = [b.value(node.inputs[0] ?? ""), b.value(node.inputs[1] ?? "")];
  const [batch = 1, channels = 1, height, width] = x.shape;
  const [, rows = 1, columns = 1] = grid.shape;
  const mode = text(node, "mode", "bilinear");
  const padding = text(node, "padding_mode", "zeros");
  if (x.shape.length !== 4 || typeof height !== "number" || typeof width !== "number") {
    throw unsupported(node, `an input of shape [${x.shape}]`);
  }
  if (!["bilinear", "linear", "nearest"].includes(mode)) throw unsupported(node, `mode ${mode}`);
  if (padding === "reflection") throw unsupported(node, "padding reflection");
  const points = productOf([rows, columns]);
  const aligned = integer(node, "align_corners", 0) === 1;

  /** Positions along an axis of the given extent, in entries. */
  const positions = (which: number, extent: number): Value => {
    const along = b.reshape(b.slice(grid, [{ axis: 3, start: which, end: which + 1 }]), [batch, 1, points]);
    const scale = (aligned ? extent - 1 : extent) / 2;
    const at = b.shifted(b.scaled(b.shifted(along, 1), scale), aligned ? 0 : -0.5);
    return padding === "border" ? b.op("Clip", [at, b.scalar(0, at), b.scalar(extent - 1, at)]) : at;
  };
  const [px, py] = [positions(0, width), positions(1, height)];
  const flat = b.reshape(x, [batch, channels, height * width]);

  /** The entries at whole positions; zero outside. */
  const picked = (ix: Value, iy: Value): Value => {
    const inside = (v: Value, extent: number) => b.op("Clip", [v, b.scalar(0, v), b.scalar(extent - 1, v)]);
    const [cx, cy] = [inside(ix, width), inside(iy, height)];
    const index = b.cast(b.add(b.scaled(cy, width), cx), ELEMENT.int64);
    const all = b.op("Expand", [index, b.shape([batch, channels, points])]);
    const entries = b.op("GatherElements", [flat, all], { axis: 2 });
    const known = b.op("And", [b.op("Equal", [cx, ix]), b.op("Equal", [cy, iy])]);
    return b.where(known, entries, b.scalar(0, entries));
  };

  const result = mode === "nearest" ? picked(b.op("Round", [px]), b.op("Round", [py])) : bilinear(b, px, py, picked);
  return b.reshape(result, [batch, channels, rows, columns]);
}

/** Σ over the four entries around, each times the area of the opposite rectangle. */
function bilinear(b: Operators, px: Value, py: Value, picked: (ix: Value, iy: Value) => Value): Value {
  const [left, top] = [b.op("Floor", [px]), b.op("Floor", [py])];
  const [fx, fy] = [b.sub(px, left), b.sub(py, top)];
  const near = (fraction: Value) => b.shifted(b.neg(fraction), 1);
  const corners = [
    { ix: left, iy: top, weight: b.mul(near(fx), near(fy)) },
    { ix: b.shifted(left, 1), iy: top, weight: b.mul(fx, near(fy)) },
    { ix: left, iy: b.shifted(top, 1), weight: b.mul(near(fx), fy) },
    { ix: b.shifted(left, 1), iy: b.shifted(top, 1), weight: b.mul(fx, fy) },
  ];
  return corners.map(({ ix, iy, weight }) => b.mul(picked(ix, iy), weight)).reduce(b.add);
}
