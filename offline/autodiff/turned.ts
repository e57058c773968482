/** A parameter's gradient in given directions: entries uᵀ_a·G·v_c, each side turned by one thin product (a convolution's patches by one convolution). */
import type { Builder } from "../onnx/builder.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";
import { COST, outerProduct } from "./outer.ts";
import type { Plan } from "./per-example.ts";
import type { Sides } from "./sides.ts";

/** [entries, B], the entries at a · l + c in the k columns of `left` [rows, k] and the l of `right` [columns, l]. */
export function turned(
  b: Builder,
  uses: readonly Sides[],
  left: Value,
  right: Value,
  entries: readonly number[],
): Value {
  const [k = 1, l = 1] = [left, right].map((directions) => Number(directions.shape[1]));
  const parts = uses.map((use) => {
    const [x, d] = [use.left.turned(left), use.right.turned(right)];
    return outerProduct(b, [k, l], {
      x: b.cast(x.value, ELEMENT.float32),
      xAxes: x.axes,
      d: b.cast(d.value, ELEMENT.float32),
      dAxes: d.axes,
      shared: 1,
      rows: (at) => [Math.floor(at / l), at % l],
      position: (p, q) => p * l + q,
      scale: use.scale,
    }).at(entries);
  });
  return parts.reduce(b.add);
}

/** What that costs, of r entries in k and l directions. */
export function turnedPlan(uses: readonly Sides[], [k, l]: readonly [number, number], r: number): Plan {
  const cost = uses.reduce(
    (sum, { left, right, positions }) => sum + (k * left.size + l * right.size + k * l) * positions + COST.pick * r,
    0,
  );
  return { kind: "turned", cost, others: [] };
}
