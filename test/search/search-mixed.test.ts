/** An index of correlated gradients, mixed as the build mixes it, against brute force and against the same rows not mixed. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { inverse, Matrix } from "ml-matrix";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { designMixing } from "../../offline/index/mixing.ts";
import { KERNEL_FILES, loadKernel } from "../../offline/serve/kernel.ts";
import { FILES } from "../../src/core/manifest.ts";
import { random } from "../../src/core/random.ts";
import { openTier, rowBitmap, type Searcher } from "../../src/core/search.ts";
import { type BuiltIndex, buildIndex } from "./built-index.ts";
import { bruteForce, bruteForceDots } from "./oracle.ts";

const n = 3000;
const LAYERS = [80, 48];
const R = 128;
/** Rows that the mixing is designed from. */
const TYPICAL = 1000;
const generator = random(1, "search-mixed");
const gradientOf = gradients();
const train = together(n, gradientOf);
const rows = preconditioned(train);
const meanSquare = Float64Array.from({ length: R }, (_, j) => meanSquareOf(train, j));

/** Of these rows or others like them. */
const build = (values: Float32Array, mixed = true) =>
  buildIndex(values, R, meanSquare, (exponents) => {
    const typical = { gradients: train.subarray(0, TYPICAL * R), rows: rows.subarray(0, TYPICAL * R) };
    return mixed ? designMixing(typical, { R, exponents, layers: LAYERS, n }) : null;
  });

let index: BuiltIndex;
let whole: BuiltIndex;
beforeAll(async () => {
  [index, whole] = [await build(rows), await build(rows, false)];
  expect(index.manifest.mixing).toBeDefined();
});
afterAll(async () => {
  await index.remove();
  await whole.remove();
});

describe.each([
  ["rows", KERNEL_FILES[0], 0],
  ["rows", KERNEL_FILES[1], 0],
  ["fine", KERNEL_FILES[0], 0],
  ["coarse", KERNEL_FILES[0], 0],
  ["coarse", KERNEL_FILES[1], 300],
] as const)("a searcher that holds %s, by %s, and the %i longest rows", (tier, kernel, longest) => {
  let searcher: Searcher;
  beforeAll(async () => {
    searcher = await openTier(index.manifest, index.source, loadKernel(kernel), tier, longest);
  });

  test.each([1, 10, n])("finds the %i most helpful and most harmful rows exactly", async (k) => {
    expect(searcher.held).toBe(tier);
    for (let query = 0; query < 5; query++) {
      const gradient = gradientOf();
      const answer = await searcher.search(gradient, k);
      expect(answer).toMatchObject({ ...bruteForce(rows, gradient, k), exact: true });
    }
  });

  test("answers a batch as it answers each query", async () => {
    const gradients = [...Array.from({ length: 12 }, gradientOf), new Float32Array(R), gradientOf()];
    const answers = await searcher.searchBatch(gradients, 7);
    for (const [at, gradient] of gradients.entries()) expect(answers[at]).toMatchObject(bruteForce(rows, gradient, 7));
  });

  test("searches every seventh row only", async () => {
    const chosen = (row: number) => row % 7 === 0;
    const filter = rowBitmap(n, Array.from({ length: n }, (_, row) => row).filter(chosen));
    const gradient = gradientOf();
    expect(await searcher.search(gradient, 10, filter)).toMatchObject(bruteForce(rows, gradient, 10, chosen));
  });

  test("sums influence by group, within the error it states", () => sumsHold(searcher, rows));
});

test("where few rows are long, those are held, and answers need no other", async () => {
  const uneven = together(n, (row) =>
    rows.subarray(row * R, (row + 1) * R).map((value) => (row % 20 === 0 ? value : value / 100)),
  );
  const long = await build(uneven);
  expect(long.manifest.mixing).toBeDefined();
  const searcher = await openTier(long.manifest, long.source, loadKernel(), "fine");
  expect(searcher.held).toBe("long");
  for (const k of [1, 10, 1500]) {
    const gradient = gradientOf();
    expect(await searcher.search(gradient, k)).toMatchObject(bruteForce(uneven, gradient, k));
  }
  await sumsHold(searcher, uneven);
  await long.remove();
});

test.each(KERNEL_FILES)("a mixing spares bytes of codes and leaves few rows to re-score, by %s", async (file) => {
  const [mixed, plain] = [
    await openTier(index.manifest, index.source, loadKernel(file), "rows"),
    await openTier(whole.manifest, whole.source, loadKernel(file), "rows"),
  ];
  const sum = { mixed: 0, plain: 0, survivors: 0 };
  for (let query = 0; query < 20; query++) {
    const gradient = gradientOf();
    const [one, other] = [await mixed.search(gradient, 10), await plain.search(gradient, 10)];
    const { helpful, harmful } = one;
    expect(other).toMatchObject({ helpful, harmful });
    sum.mixed += one.codeBytes;
    sum.plain += other.codeBytes;
    sum.survivors += one.survivors;
    expect(one.codeBytes).toBeLessThanOrEqual(one.scanned * R);
  }
  expect(sum.mixed).toBeLessThan(0.5 * sum.plain);
  expect(sum.survivors).toBeLessThan((20 * n) / 10);
});

test("the same rows and gradients make the same bytes", async () => {
  const again = await build(rows);
  expect(again.manifest).toEqual(index.manifest);
  const mixing = ({ folder }: BuiltIndex) => readFile(path.join(folder, FILES.mixing));
  expect((await mixing(again)).equals(await mixing(index))).toBe(true);
  await again.remove();
});

async function sumsHold(searcher: Searcher, values: Float32Array): Promise<void> {
  const gradient = gradientOf();
  const groups = Array.from({ length: n }, (_, row) => (row % 10) - 1);
  const chosen = (row: number) => row % 3 > 0;
  const sums = await searcher.sumGroups(gradient, groups, 9, rowBitmap(n, [...groups.keys()].filter(chosen)));
  const dots = bruteForceDots(values, gradient);
  for (let group = 0; group < 9; group++) {
    const members = [...groups.keys()].filter((row) => groups[row] === group && chosen(row));
    const sum = members.reduce((total, row) => total - dots[row], 0);
    expect(sums.count[group]).toBe(members.length);
    expect(Math.abs(sums.sum[group] - sum)).toBeLessThanOrEqual(sums.error[group] + 1e-9 * Math.abs(sum));
  }
}

/** Draws gradients [R] that lie mostly in few directions of each layer, the first ones most, and whose lengths differ. */
function gradients(): () => Float32Array {
  const directions = LAYERS.map((width) => Float64Array.from({ length: width * width }, generator.normal));
  return () => {
    const length = Math.exp(generator.normal());
    return Float32Array.from(
      LAYERS.flatMap((width, layer) => {
        const weights = Array.from({ length: width }, (_, s) => (length * generator.normal()) / (1 + s) ** 1.5);
        return Array.from({ length: width }, (_, j) =>
          weights.reduce((sum, weight, s) => sum + weight * directions[layer][s * width + j], 0),
        );
      }),
    );
  };
}

/** [count, R] of vectors [R]. */
function together(count: number, vector: (row: number) => Float32Array): Float32Array {
  const all = new Float32Array(count * R);
  for (let row = 0; row < count; row++) all.set(vector(row), row * R);
  return all;
}

/** The mean square of coordinate j over vectors [n, R]. */
function meanSquareOf(values: Float32Array, j: number): number {
  let sum = 0;
  for (let at = j; at < values.length; at += R) sum += values[at] ** 2;
  return sum / n;
}

/** (H + λI)⁻¹ g of each gradient, H and λ = 0.1 tr H / r of each layer. */
function preconditioned(all: Float32Array): Float32Array {
  const result = new Float32Array(all.length);
  let from = 0;
  for (const width of LAYERS) {
    const layer = Matrix.zeros(n, width);
    for (let row = 0; row < n; row++) for (let j = 0; j < width; j++) layer.set(row, j, all[row * R + from + j]);
    const hessian = layer.transpose().mmul(layer).div(n);
    const damped = hessian.add(Matrix.eye(width).mul((0.1 * hessian.trace()) / width));
    const solved = layer.mmul(inverse(damped));
    for (let row = 0; row < n; row++) for (let j = 0; j < width; j++) result[row * R + from + j] = solved.get(row, j);
    from += width;
  }
  return result;
}
