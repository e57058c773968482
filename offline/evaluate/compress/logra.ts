/**
 * LoGra (arXiv 2405.13954, eq. 5): a layer's gradient G [o, i] becomes A·G·Bᵀ with A [k, o], B [l, i], k·l ≤ r. Random: Gaussian A
 * and B. PCA start: the leading eigenvectors of Σ G·Gᵀ and Σ Gᵀ·G over the calibration gradients (there, of the layer's
 * inputs and cotangents, which full gradients no longer tell apart).
 */
import { random } from "../../../src/core/random.ts";
import { product32, productWithEach } from "../product.ts";
import type { Compressor, Projection, Setting } from "./compressor.ts";
import { leadingEigenvectors } from "./eigen.ts";
import { fillNormal } from "./gaussian.ts";
import { gridExtents, type MatrixView, matrixView } from "./matrix-view.ts";

/** Matrix entries unpacked at once. */
const CHUNK = 1 << 23;

/** Gradients [rows, d] as matrices [rows, view.rows, view.columns]. */
function unpacked(view: MatrixView, values: Float32Array, rows: number): Float32Array {
  const size = view.rows * view.columns;
  const d = view.cell.length;
  const matrices = new Float32Array(rows * size);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < d; k++) matrices[row * size + view.cell[k]!] = values[row * d + k]!;
  }
  return matrices;
}

/** `left` [k, view.rows], `right` [l, view.columns]. */
export function twoSided(view: MatrixView, left: Float32Array, k: number, right: Float32Array, l: number): Projection {
  const d = view.cell.length;
  const o = view.rows;
  return {
    r: k * l,
    apply: async (values, rows) => {
      const result = new Float32Array(rows * k * l);
      const chunk = Math.max(1, Math.floor(CHUNK / (o * view.columns)));
      for (let first = 0; first < rows; first += chunk) {
        const count = Math.min(chunk, rows - first);
        const matrices = unpacked(view, values.subarray(first * d, (first + count) * d), count);
        const half = await product32(matrices, right, [count * o, view.columns, l], true);
        result.set(await productWithEach(left, half, [k, o, l], count), first * k * l);
      }
      return result;
    },
  };
}

export const logra: Compressor = {
  name: "LoGra",
  needs: "nothing",
  projection: ({ layer, r, seed }) => {
    const view = matrixView(layer);
    const [k, l] = gridExtents(view, r);
    const generator = random(seed, `logra/${layer.name}`);
    const left = new Float32Array(k * view.rows);
    const right = new Float32Array(l * view.columns);
    fillNormal(left, generator, 1 / Math.sqrt(k));
    fillNormal(right, generator, 1 / Math.sqrt(l));
    return twoSided(view, left, k, right, l);
  },
};

/** Σ G·Gᵀ [o, o] and Σ Gᵀ·G [i, i] over the calibration gradients. */
export async function covariances(view: MatrixView, { calibration, calibrationRows }: Setting) {
  const { rows: o, columns: i } = view;
  const matrices = unpacked(view, calibration, calibrationRows);
  // Columns side by side: [o, rows·i] and [i, rows·o].
  const across = new Float32Array(matrices.length);
  const down = new Float32Array(matrices.length);
  for (let row = 0; row < calibrationRows; row++) {
    for (let p = 0; p < o; p++) {
      for (let q = 0; q < i; q++) {
        const value = matrices[(row * o + p) * i + q]!;
        across[p * calibrationRows * i + row * i + q] = value;
        down[q * calibrationRows * o + row * o + p] = value;
      }
    }
  }
  return {
    left: Float64Array.from(await product32(across, across, [o, calibrationRows * i, o], true)),
    right: Float64Array.from(await product32(down, down, [i, calibrationRows * o, i], true)),
  };
}

export const lograPca: Compressor = {
  name: "LoGra, PCA start",
  needs: "calibration",
  projection: async (setting) => {
    const view = matrixView(setting.layer);
    const [k, l] = gridExtents(view, setting.r);
    const { left, right } = await covariances(view, setting);
    const rows = await leadingEigenvectors(left, view.rows, k);
    const columns = await leadingEigenvectors(right, view.columns, l);
    return twoSided(view, Float32Array.from(rows.vectors), k, Float32Array.from(columns.vectors), l);
  },
};
