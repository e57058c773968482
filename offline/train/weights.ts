/**
 * The batch gradient of a convolution's kernel: Σ over examples and positions of δ[b, o, p] · x[b, c, p·stride + k·dilation]. Every
 * patch of the image is laid out as a row of [C·taps, B·positions], and one product with δ [B·positions, O] sums over both.
 */
import type { Rule } from "../autodiff/rule.ts";
import { minus, plus, productOf, times } from "../onnx/dims.ts";
import { integer, type Value, where } from "../onnx/graph.ts";
import { windowOf } from "../onnx/infer/products.ts";

export const convolutionWeight: Rule = (c) => {
  const { b, node, d } = c;
  const [x, w] = [c.x(0), c.x(1)];
  return [
    null,
    () => {
      if (integer(node, "group", 1) !== 1) {
        throw new Error(
          `${where(node)}: expected a convolution of one group to train, got several; freeze this weight`,
        );
      }
      const [outputs = 1, channels = 1] = w.shape;
      const { kernel, strides, dilations, pads } = windowOf(node, x.shape.slice(2), w.shape.slice(2));
      const out = d.shape.slice(2);
      const spots = productOf([b.batch, ...out]);
      // [C, B, …image]: a channel's examples lie side by side.
      const seen = b.pad(
        b.transpose(x, [1, 0, ...kernel.map((_, k) => k + 2)]),
        pads.map(([before, after], k) => ({ axis: k + 2, before, after })),
      );
      const taps = kernel.reduce((product, extent) => product * extent, 1);
      const patches = Array.from({ length: taps }, (_, tap): Value => {
        const cuts = kernel.map((extent, k) => {
          const inner = kernel.slice(k + 1).reduce((product, size) => product * size, 1);
          const start = (Math.floor(tap / inner) % extent) * (dilations[k] ?? 1);
          const step = strides[k] ?? 1;
          return { axis: k + 2, start, end: plus(times(minus(out[k] ?? 1, 1), step), start + 1), step };
        });
        return b.reshape(b.slice(seen, cuts), [channels, 1, spots]);
      });
      const unfolded = b.reshape(b.concat(patches, 1), [productOf([channels, taps]), spots]);
      const delta = b.reshape(b.transpose(d, [1, 0, ...kernel.map((_, k) => k + 2)]), [outputs, spots]);
      return b.reshape(b.op("MatMul", [delta, b.transpose(unfolded, [1, 0])]), w.shape);
    },
    () => b.sum(d, [0, ...kernelAxes(d)]),
  ];
};

const kernelAxes = (d: Value): number[] => d.shape.flatMap((_, axis) => (axis < 2 ? [] : [axis]));

/** Of a weight [i, o] that all positions share: xᵀδ over examples and positions at once, instead of one product an example. */
export const denseWeight: Rule = (c) => {
  const { b, d } = c;
  const [x, w] = [c.x(0), c.x(1)];
  if (w.shape.length !== 2 || x.shape.length < 3) return [];
  return [
    null,
    () => {
      const rows = productOf(x.shape.slice(0, -1));
      const flat = (v: Value) => b.reshape(v, [rows, v.shape.at(-1) ?? 1]);
      return b.op("Gemm", [flat(x), flat(d)], { transA: 1 });
    },
  ];
};
