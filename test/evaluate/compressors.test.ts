import { describe, expect, test } from "vitest";
import { COMPRESSORS, compressorOf } from "../../offline/evaluate/compress/all.ts";
import type { Setting } from "../../offline/evaluate/compress/compressor.ts";
import { leadingEigenvectors } from "../../offline/evaluate/compress/eigen.ts";
import { hadamard } from "../../offline/evaluate/compress/fjlt.ts";
import { gridExtents, matrixView } from "../../offline/evaluate/compress/matrix-view.ts";
import { gradientRows, layer, matrixOf, relativeDifference, times, transposed } from "./synthetic.ts";

const { d } = layer;
const rows = 50;
const values = gradientRows(rows, d, "compressors");
const setting = (changes: Partial<Setting> = {}): Setting => ({
  layer,
  r: 16,
  seed: 1,
  calibration: values,
  calibrationRows: rows,
  factored: (position) => 30 ** ((-2 * position) / d),
  ...changes,
});
const compress = async (name: string, changes: Partial<Setting> = {}, given = values, count = rows) =>
  (await compressorOf(name).projection(setting(changes))).apply(given, count);

/** What the compressor does to each unit vector: the matrix [d, r] of the linear map. */
async function matrixFor(name: string, changes: Partial<Setting> = {}) {
  const units = new Float32Array(d * d);
  for (let k = 0; k < d; k++) units[k * d + k] = 1;
  const flat = await compress(name, changes, units, d);
  return matrixOf(flat, d, flat.length / d);
}

describe.each(COMPRESSORS.map(({ name }) => name))("%s", (name) => {
  test("is the linear map that it is on unit vectors, to float32", async () => {
    const wanted = times(matrixOf(values, rows, d), await matrixFor(name));
    expect(relativeDifference(await compress(name), wanted)).toBeLessThan(1e-5);
  });

  test("is drawn by its seed", async () => {
    expect(await compress(name)).toEqual(await compress(name));
    const learnt = name === "none" || name === "PCA" || name === "LoGra, PCA start" || name === "eigenbasis dropout";
    const other = await compress(name, { seed: 2 });
    if (learnt) expect(other).toEqual(await compress(name));
    else expect(other).not.toEqual(await compress(name));
  });
});

describe("masks", () => {
  test.each(["dropout", "grid dropout", "importance dropout", "factored importance dropout"])(
    "%s keeps r distinct entries as they are",
    async (name) => {
      const columns = transposed(await matrixFor(name));
      expect(columns.length).toBe(16);
      const kept = columns.map((column) => column.indexOf(1));
      expect(columns.flat().every((entry) => entry === 0 || entry === 1)).toBe(true);
      expect(columns.every((column) => column.reduce((a, b) => a + b, 0) === 1)).toBe(true);
      expect(new Set(kept).size).toBe(16);
    },
  );

  test("a grid is whole rows × whole columns of the weight with its bias beside it", async () => {
    const view = matrixView(layer);
    expect([view.rows, view.columns]).toEqual([6, 10]);
    const kept = transposed(await matrixFor("grid dropout")).map((column) => view.cell[column.indexOf(1)]!);
    const [rowsKept, columnsKept] = [kept.map((c) => Math.floor(c / 10)), kept.map((c) => c % 10)];
    expect(new Set(rowsKept).size * new Set(columnsKept).size).toBe(16);
  });

  test("importance prefers large entries: over 300 seeds, twice the mean square is drawn about twice as often", async () => {
    const counts = [0, 0];
    const pair = { ...layer, parameters: [{ name: "w", shape: [6] }], d: 6 };
    const weights = [1, 2, 0.5, 0.5, 0.5, 0.5];
    for (let seed = 0; seed < 300; seed++) {
      const projection = await compressorOf("factored importance dropout").projection(
        setting({ layer: pair, r: 1, seed, factored: (position) => weights[position]! }),
      );
      const [kept] = await projection.apply(Float32Array.of(0, 1, 2, 3, 4, 5), 1);
      if (kept! < 2) counts[kept!]!++;
    }
    // 300 draws of probabilities 1/5 and 2/5: within four standard deviations.
    expect(Math.abs(counts[0]! - 60)).toBeLessThan(28);
    expect(Math.abs(counts[1]! - 120)).toBeLessThan(34);
  });

  test("factored importance without a model is refused", () => {
    expect(() => compressorOf("factored importance dropout").projection(setting({ factored: null }))).toThrow(
      /layer fc: expected the factored mean squares of a model, got none/,
    );
  });
});

describe("random projections", () => {
  test.each(["SJLT", "FJLT", "Gaussian"])(
    "%s keeps squared lengths in the mean, within 5 % over 400 seeds",
    async (name) => {
      const row = values.slice(0, d);
      const length = row.reduce((sum, value) => sum + value * value, 0);
      let mean = 0;
      for (let seed = 0; seed < 400; seed++) {
        const compressed = await compress(name, { seed }, row, 1);
        mean += compressed.reduce((sum, value) => sum + value * value, 0) / 400;
      }
      expect(Math.abs(mean / length - 1)).toBeLessThan(0.05);
    },
  );

  test("SJLT has one ±1 for every coordinate; after a mask, for every kept one", async () => {
    const whole = await matrixFor("SJLT");
    expect(whole.every((row) => row.filter((entry) => Math.abs(entry) === 1).length === 1)).toBe(true);
    const few = await matrixFor("dropout 8r, then SJLT", { r: 5 });
    expect(few.filter((row) => row.some((entry) => entry !== 0)).length).toBe(40);
  });

  test("FJLT: rows of a Hadamard matrix, orthogonal and of entries ±1", () => {
    const h = Array.from({ length: 8 }, (_, k) => {
      const unit = new Float32Array(8);
      unit[k] = 1;
      hadamard(unit);
      return [...unit];
    });
    expect(times(h, transposed(h))).toEqual(h.map((_, i) => h.map((_, j) => (i === j ? 8 : 0))));
  });
});

describe("learnt projections", () => {
  test("the leading eigenvectors of a large matrix are those it was made of", async () => {
    // A = Σ 2^−k v_k v_kᵀ with v_k the k-th row of a Hadamard matrix, of unit length.
    const n = 512;
    const rows = Array.from({ length: 40 }, (_, k) => {
      const row = new Float32Array(n);
      row[k] = 1 / Math.sqrt(n);
      hadamard(row);
      return row;
    });
    const a = new Float64Array(n * n);
    rows.forEach((row, k) => {
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) a[i * n + j]! += 2 ** -k * row[i]! * row[j]!;
    });
    const { values: found, vectors } = await leadingEigenvectors(a, n, 12);
    found.forEach((value, k) => {
      expect(value / 2 ** -k).toBeCloseTo(1, 5);
      const along = rows[k]!.reduce((sum, entry, i) => sum + entry * vectors[k * n + i]!, 0);
      expect(Math.abs(along)).toBeCloseTo(1, 4);
    });
  });

  test("PCA: orthonormal, and what it keeps of GᵀG is the sum of the r largest eigenvalues", async () => {
    const p = await matrixFor("PCA", { r: 7 });
    expect(
      relativeDifference(
        times(transposed(p), p).flat(),
        p[0]!.map((_, i) => p[0]!.map((_, j) => Number(i === j))),
      ),
    ).toBeLessThan(1e-4);
    const g = matrixOf(values, rows, d);
    const kept = times(g, p)
      .flat()
      .reduce((sum, value) => sum + value * value, 0);
    const gram = times(transposed(g), g);
    const { values: eigenvalues } = await leadingEigenvectors(Float64Array.from(gram.flat()), d, 7);
    expect(kept / eigenvalues.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
  });

  test("eigenbasis dropout: orthonormal, and of all such entries those with the largest product of eigenvalues", async () => {
    const p = await matrixFor("eigenbasis dropout", { r: 12 });
    const identity = p[0]!.map((_, i) => p[0]!.map((_, j) => Number(i === j)));
    expect(relativeDifference(times(transposed(p), p).flat(), identity)).toBeLessThan(1e-4);
    // With every entry kept it is a rotation: nothing is lost.
    const whole = await compress("eigenbasis dropout", { r: 60 });
    const sum = (list: Float32Array) => list.reduce((total, value) => total + value * value, 0);
    expect(sum(whole) / sum(values)).toBeCloseTo(1, 4);
    // Twelve of them keep more of the gradients than a 3 × 4 grid does.
    const few = sum(await compress("eigenbasis dropout", { r: 12 }));
    expect(few).toBeGreaterThan(sum(await compress("LoGra, PCA start", { r: 12 })));
  });

  test("LoGra from principal components spans the leading eigenvectors of Σ G Gᵀ and Σ Gᵀ G", async () => {
    const p = await matrixFor("LoGra, PCA start", { r: 16 });
    const view = matrixView(layer);
    expect(gridExtents(view, 16)).toEqual([4, 4]);
    const left = Array.from({ length: 6 }, () => new Array<number>(6).fill(0));
    for (let row = 0; row < rows; row++) {
      const matrix = Array.from({ length: 6 }, () => new Array<number>(10).fill(0));
      for (let k = 0; k < d; k++) matrix[Math.floor(view.cell[k]! / 10)]![view.cell[k]! % 10] = values[row * d + k]!;
      times(matrix, transposed(matrix)).forEach((line, i) => {
        line.forEach((value, j) => {
          left[i]![j]! += value;
        });
      });
    }
    const { vectors } = await leadingEigenvectors(Float64Array.from(left.flat()), 6, 4);
    // Column (0, q) of the map is a₀ ⊗ b_q: summed over q its squares along the weight's rows are a₀'s.
    const share = Array.from(
      { length: 6 },
      (_, i) =>
        p.reduce(
          (sum, row, k) =>
            Math.floor(view.cell[k]! / 10) === i ? sum + row.slice(0, 4).reduce((s, v) => s + v * v, 0) : sum,
          0,
        ) / 4,
    );
    share.forEach((value, i) => {
      expect(value).toBeCloseTo(vectors[i]! ** 2, 4);
    });
  });
});
