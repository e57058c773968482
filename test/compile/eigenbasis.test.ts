/** Gradients kept in other directions and folded: against PyTorch's per-example gradients in float64, turned by brute force. */
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import * as z from "zod";
import { selfCheck } from "../../offline/autodiff/self-check.ts";
import { eigenvectors, orthonormalise, ritzVectors } from "../../offline/compress/eigenvectors.ts";
import { random } from "../../src/core/random.ts";
import { compileCalibrated } from "./calibrated.ts";
import { feedsOf, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const zoo = (file: string) => fileURLToPath(new URL(`../../fixtures/zoo/${file}`, import.meta.url));

async function compiledCase(name: string, compressor: "eigenbasis" | "sjlt", perLayer: number) {
  const { arrays, metadata } = readSafetensors(zoo(`${name}.safetensors`));
  const loss = ["next-token", "cross-entropy", "binary-cross-entropy", "squared-error"] as const;
  const options = {
    loss: loss.find((kind) => kind === metadata.loss) ?? "output",
    output: metadata.output ?? "logits",
    r: { perLayer },
    compressor,
    seed: name,
  } as const;
  const compiled = await compileCalibrated(zoo(`${name}.onnx`), options, (ports) => feedsOf(ports, arrays));
  return { arrays, metadata, compiled, feeds: feedsOf(compiled, arrays) };
}

/** Kinds of parameters: dense ones, kernels, tables, norms, adapters, transposed and several times used ones, groups that are not turned. */
const cases = [
  "mlp",
  "cnn",
  "resnet9",
  "mobilenet",
  "regression",
  "bert-lora2",
  "gpt2",
  "lstm",
  "recommender",
  "op-convtranspose-2d",
  "op-matmul-batched",
];

const aliases = z.record(z.string(), z.object({ parameter: z.string(), transposed: z.boolean() }));

test.each([
  ...cases.map((name) => [name, "eigenbasis"] as const),
  ...["mlp", "cnn", "gpt2"].map((name) => [name, "sjlt"] as const),
])("%s, %s: PyTorch's gradients in these directions", async (name, compressor) => {
  const { arrays, metadata, compiled, feeds } = await compiledCase(name, compressor, 20);
  const alias = aliases.parse(JSON.parse(metadata.initializers ?? "{}"));
  const { gradient, loss } = await (await runner(compiled.graph))(feeds);
  const [got, want]: [number[], number[]] = [[], []];
  for (const [index, layer] of compiled.layers.entries()) {
    const block = compiled.mask[index]!;
    const matrices = layer.parameters.map(({ name: held, shape }) => {
      const { parameter = held, transposed = false } = alias[held] ?? {};
      const sole = Object.values(alias).filter((other) => other.parameter === parameter).length < 2;
      const whole = arrays.has(`grad.${parameter}.index`) || !sole ? undefined : arrays.get(`grad.${parameter}`);
      return whole && { data: whole.data, transposed, shape };
    });
    if (matrices.some((matrix) => !matrix)) continue;
    for (let row = 0; row < loss.length; row++) {
      const entries = layer.parameters.flatMap(({ shape }, parameter) => {
        const { data, transposed } = matrices[parameter]!;
        const size = shape.reduce((a, b) => a * b, 1);
        const [rows = 1, columns = 1] = shape;
        return Array.from({ length: size }, (_, at) => {
          const from = transposed ? (at % columns) * rows + Math.floor(at / columns) : at;
          return data[row * size + from] ?? Number.NaN;
        });
      });
      want.push(...bruteForce(compiled, index, entries));
      const start = row * compiled.dimension + block.offset;
      got.push(...gradient.subarray(start, start + block.r));
    }
  }
  expect(got.length).toBeGreaterThan(0);
  expect(relativeError(got, want)).toBeLessThan(1e-4);
  if (compressor === "eigenbasis") {
    expect(compiled.mask.some(({ directions }) => directions?.some((own) => own))).toBe(true);
  }
});

/** uᵀ·G·v for every kept entry, entry by entry, then the signed sums. */
function bruteForce(
  { layers, mask }: Awaited<ReturnType<typeof compileCalibrated>>,
  index: number,
  gradient: readonly number[],
): number[] {
  const block = mask[index]!;
  const kept = Array.from(block.kept, (position) => {
    let start = 0;
    for (const [parameter, { shape }] of layers[index]!.parameters.entries()) {
      const size = shape.reduce((a, b) => a * b, 1);
      if (position >= start + size) {
        start += size;
        continue;
      }
      const own = block.directions?.[parameter];
      if (!own) return gradient[position] ?? Number.NaN;
      const { rows, columns, left, right } = own;
      const [a, c] = [Math.floor((position - start) / columns), (position - start) % columns];
      let sum = 0;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const [u, v] = [left[(i * left.length) / rows + a]!, right[(j * right.length) / columns + c]!];
          sum += u * gradient[start + i * columns + j]! * v;
        }
      }
      return sum;
    }
    throw new Error(`position ${position}: expected it inside the layer`);
  });
  if (!block.folded) return kept;
  const sums = new Array<number>(block.r).fill(0);
  block.folded.forEach((place, rank) => {
    sums[place < 0 ? -place - 1 : place]! += (place < 0 ? -1 : 1) * kept[rank]!;
  });
  return sums;
}

test.each(["cnn", "mobilenet"])(
  "%s: the directions of each side are orthonormal, every one is needed, and the same model gives the same bytes",
  async (name) => {
    const [first, again] = [await compiledCase(name, "eigenbasis", 20), await compiledCase(name, "eigenbasis", 20)];
    expect(Buffer.compare(first.compiled.graph, again.compiled.graph)).toBe(0);
    const all = first.compiled.mask.flatMap(({ directions }) => directions?.filter((own) => own !== null) ?? []);
    for (const { rows, columns, left, right } of all) {
      for (const [vectors, size] of [[left, rows] as const, [right, columns] as const]) {
        const count = vectors.length / size;
        for (let a = 0; a < count; a++) {
          for (let c = 0; c <= a; c++) {
            let inner = 0;
            for (let at = 0; at < size; at++) inner += vectors[at * count + a]! * vectors[at * count + c]!;
            expect(inner).toBeCloseTo(a === c ? 1 : 0, 5);
          }
        }
      }
    }
    first.compiled.layers.forEach(({ parameters }, index) => {
      const { kept, directions } = first.compiled.mask[index]!;
      let start = 0;
      parameters.forEach(({ shape }, parameter) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const inside = kept.filter((at) => at >= start && at < start + size).map((at) => at - start);
        start += size;
        const own = directions?.[parameter];
        if (!own) return;
        expect(new Set(Array.from(inside, (at) => Math.floor(at / own.columns))).size).toBe(own.left.length / own.rows);
        expect(new Set(Array.from(inside, (at) => at % own.columns)).size).toBe(own.right.length / own.columns);
      });
    });
  },
);

test.each([
  ["cnn", "eigenbasis"],
  ["cnn", "sjlt"],
  ["gpt2", "eigenbasis"],
] as const)("%s, %s: central differences along the kept directions agree", async (name, compressor) => {
  const { compiled, feeds } = await compiledCase(name, compressor, 30);
  const { differences, skipped } = await selfCheck(compiled, feeds);
  expect(differences.length + skipped.length).toBe(compiled.layers.length);
  expect(Math.max(...differences.map(({ error }) => error))).toBeLessThan(0.05);
});

test("a direction that is not the graph's is found by the check", async () => {
  const { compiled, feeds } = await compiledCase("mlp", "eigenbasis", 30);
  const mask = compiled.mask.map((block) => ({ ...block, kept: block.kept.map((_, rank) => rank) }));
  await expect(selfCheck({ ...compiled, mask }, feeds)).rejects.toThrow("central differences");
});

test("twenty entries of the eigenbasis hold more of the gradient than twenty entries of importance", async () => {
  const energy = async (compressor: "eigenbasis" | "sjlt") => {
    const { compiled, feeds } = await compiledCase("gpt2", compressor, 20);
    return (await (await runner(compiled.graph))(feeds)).gradient.reduce((sum, entry) => sum + entry * entry, 0);
  };
  expect(await energy("eigenbasis")).toBeGreaterThan(await energy("sjlt"));
});

test("eigenvectors rebuild the matrix, also where eigenvalues are equal or zero, and have fixed signs", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 12 }), fc.nat(), (n, rank, seed) => {
      const { normal } = random(seed, "factors");
      // Σ over equal weights: degenerate where rank < n − 1, and where the factors repeat.
      const factors = Array.from({ length: rank }, () => Float64Array.from({ length: n }, normal));
      const a = new Float64Array(n * n);
      for (const f of factors) for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) a[i * n + j]! += f[i]! * f[j]!;
      const rows = eigenvectors(a, n);
      const dot = (x: ArrayLike<number>, y: ArrayLike<number>) => Array.from(x).reduce((s, v, i) => s + v * y[i]!, 0);
      const row = (index: number) => rows.subarray(index * n, (index + 1) * n);
      const values = Array.from({ length: n }, (_, index) =>
        dot(
          row(index),
          Array.from({ length: n }, (_, i) => dot(a.subarray(i * n, (i + 1) * n), row(index))),
        ),
      );
      const scale = Math.max(1, values[0] ?? 0);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j <= i; j++) {
          expect(dot(row(i), row(j))).toBeCloseTo(i === j ? 1 : 0, 9);
          const rebuilt = values.reduce((sum, value, index) => sum + value * row(index)[i]! * row(index)[j]!, 0);
          expect(Math.abs(rebuilt - a[i * n + j]!)).toBeLessThan(1e-9 * scale);
        }
        if (i > 0) expect(values[i]! - values[i - 1]!).toBeLessThan(1e-9 * scale);
        const largest = row(i).reduce((best, v) => (Math.abs(v) > Math.abs(best) ? v : best), 0);
        expect(largest).toBeGreaterThan(0);
      }
    }),
    { numRuns: 50 },
  );
});

test("a subspace that holds the leading eigenvectors gives them back", () => {
  const [n, k] = [30, 6];
  const generator = random(5, "subspace");
  const basis = Float64Array.from({ length: n * n }, generator.normal);
  orthonormalise(basis, n, n, generator);
  const values = Array.from({ length: n }, (_, index) => 2 ** -index);
  const vector = (index: number) => basis.subarray(index * n, (index + 1) * n);
  const times = (rows: Float64Array, count: number) => {
    const result = new Float64Array(rows.length);
    for (let row = 0; row < count; row++) {
      values.forEach((value, index) => {
        const along = vector(index).reduce((sum, v, i) => sum + v * rows[row * n + i]!, 0);
        for (let i = 0; i < n; i++) result[row * n + i]! += value * along * vector(index)[i]!;
      });
    }
    return result;
  };
  // Mixed, and one row twice: what is nothing new is drawn anew.
  const rows = basis.slice(0, k * n);
  for (let row = 1; row < k; row++) for (let i = 0; i < n; i++) rows[row * n + i]! += 0.5 * rows[(row - 1) * n + i]!;
  orthonormalise(rows, k, n, generator);
  const found = ritzVectors(rows, times(rows, k), k, n);
  for (let row = 0; row < k; row++) {
    const along = vector(row).reduce((sum, v, i) => sum + v * found[row * n + i]!, 0);
    expect(Math.abs(along)).toBeCloseTo(1, 9);
  }
  const twice = Float64Array.from([...vector(0), ...vector(0)]);
  orthonormalise(twice, 2, n, generator);
  const inner = twice.subarray(0, n).reduce((sum, v, i) => sum + v * twice[n + i]!, 0);
  expect(Math.abs(inner)).toBeLessThan(1e-12);
});
