/** Resize as a matrix along one axis, from ONNX's definition of its coordinates. */
import { integer, real, text, where } from "../../onnx/graph.ts";
import type { RuleContext } from "../rule.ts";

/** The [outSize, inSize] matrix of a Resize along one axis, row-major. Throws on antialiasing and cropping. */
export function interpolation(c: RuleContext, axis: number, inSize: number, outSize: number): number[] {
  const mode = text(c.node, "mode", "nearest");
  const transformation = text(c.node, "coordinate_transformation_mode", "half_pixel");
  const [antialias, inside] = [integer(c.node, "antialias", 0) === 1, integer(c.node, "exclude_outside", 0) === 1];
  if (antialias !== inside)
    throw unsupported(c, "antialiasing over the edge, or an edge left out without antialiasing");
  const scales = c.optional(2) ? c.constant(2) : null;
  const scale = scales?.[axis] ?? outSize / inSize;
  const source = (position: number): number => {
    switch (transformation) {
      case "asymmetric":
        return position / scale;
      case "align_corners":
        return outSize === 1 ? 0 : (position * (inSize - 1)) / (outSize - 1);
      case "pytorch_half_pixel":
        return outSize === 1 ? 0 : (position + 0.5) / scale - 0.5;
      case "half_pixel":
        return (position + 0.5) / scale - 0.5;
      default:
        throw unsupported(c, `coordinates ${transformation}`);
    }
  };
  const rounding = text(c.node, "nearest_mode", "round_prefer_floor");
  const nearest = (at: number): number => {
    if (rounding === "floor") return Math.floor(at);
    if (rounding === "ceil") return Math.ceil(at);
    return rounding === "round_prefer_ceil" ? Math.floor(at + 0.5) : Math.ceil(at - 0.5);
  };
  const matrix = new Array<number>(outSize * inSize).fill(0);
  const clamped = (at: number) => Math.min(Math.max(at, 0), inSize - 1);
  const give = (row: number, column: number, weight: number) => {
    const at = row * inSize + clamped(column);
    matrix[at] = (matrix[at] ?? 0) + weight;
  };
  const smooth = antialias && mode !== "nearest" && scale < 1;
  for (let position = 0; position < outSize; position++) {
    const at = source(position);
    if (smooth) {
      const kernel = mode === "linear" ? hat : (x: number) => cubic(real(c.node, "cubic_coeff_a", -0.75), x);
      const weights = stretched(at, scale, mode === "linear" ? 1 : 2, inSize, kernel);
      for (const { column, weight } of weights) give(position, column, weight);
      continue;
    }
    if (mode === "nearest") give(position, nearest(at), 1);
    else if (mode === "linear") {
      const low = Math.floor(clamped(at));
      give(position, low, 1 - (clamped(at) - low));
      give(position, low + 1, clamped(at) - low);
    } else if (mode === "cubic") {
      const low = Math.floor(at);
      for (let tap = -1; tap < 3; tap++)
        give(position, low + tap, cubic(real(c.node, "cubic_coeff_a", -0.75), at - low - tap));
    } else throw unsupported(c, `mode ${mode}`);
  }
  return matrix;
}

const hat = (x: number): number => Math.max(1 - Math.abs(x), 0);

/** Antialiasing when shrinking: the kernel made 1/scale wider, over what lies inside, its weights made to sum to 1. */
function stretched(at: number, scale: number, reach: number, inSize: number, kernel: (x: number) => number) {
  const [first, last] = [Math.ceil(at - reach / scale), Math.floor(at + reach / scale)];
  const weights = Array.from({ length: last - first + 1 }, (_, index) => ({
    column: first + index,
    weight: kernel((first + index - at) * scale),
  })).filter(({ column }) => column >= 0 && column < inSize);
  const total = weights.reduce((sum, { weight }) => sum + weight, 0);
  return weights.map(({ column, weight }) => ({ column, weight: weight / total }));
}

/** Keys' kernel with coefficient a, at distance x. */
function cubic(a: number, x: number): number {
  const t = Math.abs(x);
  if (t <= 1) return (a + 2) * t ** 3 - (a + 3) * t ** 2 + 1;
  return t < 2 ? a * t ** 3 - 5 * a * t ** 2 + 8 * a * t - 4 * a : 0;
}

const unsupported = (c: RuleContext, got: string) =>
  new Error(
    `${where(c.node)}: expected nearest, linear or cubic interpolation on the usual grids, got ${got}; use one of those`,
  );
