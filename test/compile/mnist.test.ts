/** The gradient graph of the digit classifier against PyTorch's per-example gradients, computed in float64. */
import { expect, test } from "vitest";
import { compileGradient } from "../../offline/compile/compile.ts";
import { sizeOf } from "../../src/core/mask.ts";
import { digitArray as array, digitFeeds as feeds, digitModel as model } from "./digits.ts";
import { feedsOf, relativeError, runner } from "./run.ts";

const examples = array("index").data.length;

/** Entry `position` of parameter `name`'s gradient for example `row`; fc1's weight is the outer product of its bias's gradient and its input. */
function expected(name: string, row: number, position: number): number {
  if (name === "fc1.weight") {
    const bias = array("fc1.bias").data[row * 64 + Math.floor(position / 784)] ?? 0;
    return bias * (array("fc1.input").data[row * 784 + (position % 784)] ?? 0);
  }
  const { data, shape } = array(name);
  return data[row * (shape[1] ?? 1) + position] ?? Number.NaN;
}

test.each([{ total: 512 }, { total: 4096 }])("kept coordinates equal PyTorch's, %o", async (r) => {
  const compiled = await compileGradient(model, { loss: "cross-entropy", r, compressor: "uniform", seed: 1 });
  expect(compiled.dimension).toBe(r.total);
  expect(compiled.layers.map((layer) => layer.name)).toEqual(["conv1", "conv2", "fc1", "fc2"]);
  const run = await runner(compiled.graph);
  const { loss, gradient } = await run(feedsOf(compiled, feeds));
  expect(relativeError(loss, array("loss").data)).toBeLessThan(1e-5);
  compiled.layers.forEach((layer, index) => {
    const block = compiled.mask[index];
    const got: number[] = [];
    const want: number[] = [];
    for (let row = 0; row < examples; row++) {
      block?.kept.forEach((position, rank) => {
        let inside = position;
        const parameter = layer.parameters.find((p) => {
          if (inside < sizeOf(p)) return true;
          inside -= sizeOf(p);
          return false;
        });
        got.push(gradient[row * compiled.dimension + block.offset + rank] ?? Number.NaN);
        want.push(expected(parameter?.name ?? "", row, inside));
      });
    }
    expect(relativeError(got, want), layer.name).toBeLessThan(1e-4);
  });
});

test("examples of a batch do not influence each other", async () => {
  const compiled = await compileGradient(model, {
    loss: "cross-entropy",
    r: { total: 512 },
    compressor: "uniform",
    seed: 2,
  });
  const run = await runner(compiled.graph);
  const together = await run(feedsOf(compiled, feeds));
  for (let row = 0; row < 4; row++) {
    const alone = await run(feedsOf(compiled, feeds, [row, row + 1]));
    const slice = together.gradient.subarray(row * 512, (row + 1) * 512);
    expect(relativeError(alone.gradient, slice)).toBeLessThan(1e-5);
  }
});

test("whole gradients formed first give the same coordinates", async () => {
  const options = { loss: "cross-entropy", r: { total: 512 }, compressor: "uniform", seed: 3 } as const;
  const [cheapest, whole] = await Promise.all([
    compileGradient(model, options),
    compileGradient(model, { ...options, plan: "whole" }),
  ]);
  const got = await (await runner(whole.graph))(feedsOf(whole, feeds));
  const want = await (await runner(cheapest.graph))(feedsOf(cheapest, feeds));
  expect(relativeError(got.gradient, want.gradient)).toBeLessThan(1e-5);
});

test("more coordinates than parameters are refused", async () => {
  const compile = compileGradient(model, {
    loss: "cross-entropy",
    r: { total: 60_000 },
    compressor: "uniform",
    seed: 1,
  });
  await expect(compile).rejects.toThrow(RangeError);
});
