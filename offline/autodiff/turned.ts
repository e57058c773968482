/** A parameter's gradient in given directions: entries uᵀ_a·G·v_c, each side turned by one thin product (a convolution's patches by one convolution). */
import type { Builder } from "../onnx/builder.ts";
import type { Value } from "../onnx/graph.ts";
import { outerProduct } from "./outer.ts";
import { estimate, type PerExample, type Plan, summed } from "./per-example.ts";
import type { Sides } from "./sides.ts";

/** The gradient as a matrix [k, l] in the columns of `left` [rows, k] and `right` [columns, l]. */
export function turned(b: Builder, uses: readonly Sides[], left: Value, right: Value): PerExample {
  const [k, l] = [left, right].map((directions) => Number(directions.shape[1]));
  const shape = [k ?? 1, l ?? 1];
  const parts = uses.map((use) => {
    const [x, d] = [use.left.turned(left), use.right.turned(right)];
    const gradient = outerProduct(b, shape, {
      x: x.value,
      xAxes: x.axes,
      d: d.value,
      dAxes: d.axes,
      shared: 1,
      rows: (at) => [Math.floor(at / (l ?? 1)), at % (l ?? 1)],
      position: (p, q) => p * (l ?? 1) + q,
      scale: use.scale,
    });
    const positions = estimate(d.value.shape.filter((_, axis) => axis !== d.value.batch?.axis)) / (l ?? 1);
    const turning = ((k ?? 1) * use.left.size + (l ?? 1) * use.right.size) * positions;
    return {
      ...gradient,
      plan: (kept: readonly number[]): Plan => {
        const { cost, ...plan } = gradient.plan(kept);
        return { ...plan, cost: cost + turning };
      },
    };
  });
  return summed(b, parts);
}
