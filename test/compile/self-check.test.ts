/** The check that every build makes of its gradient graph, on graphs that are right and on graphs that are not. */
import { fileURLToPath } from "node:url";
import onnxProto from "onnx-proto";
import { expect, test } from "vitest";
import { selfCheck } from "../../offline/autodiff/self-check.ts";
import { compileGradient } from "../../offline/compile/compile.ts";
import { feedsOf } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const zoo = (name: string) => fileURLToPath(new URL(`../../fixtures/zoo/${name}`, import.meta.url));

async function compiledWithFeeds(name: string, loss: "cross-entropy" | "next-token") {
  const { arrays } = readSafetensors(zoo(`${name}.safetensors`));
  const options = { loss, r: { perLayer: 50 }, compressor: "uniform", seed: 1 } as const;
  const compiled = await compileGradient(zoo(`${name}.onnx`), options);
  return { compiled, feeds: feedsOf(compiled, arrays) };
}

test.each([
  ["mlp", "cross-entropy"],
  ["cnn", "cross-entropy"],
  ["mobilenet", "cross-entropy"],
  ["bert", "cross-entropy"],
  ["gpt2", "next-token"],
  ["llama", "next-token"],
] as const)("%s passes", async (name, loss) => {
  const { compiled, feeds } = await compiledWithFeeds(name, loss);
  const { differences, alone } = await selfCheck(compiled, feeds);
  expect(differences.length).toBeGreaterThan(compiled.layers.length / 2);
  expect(alone).toBeLessThan(1e-4);
});

test("a gradient that is not the loss's is found, and its layer named", async () => {
  const { compiled, feeds } = await compiledWithFeeds("mlp", "cross-entropy");
  const mask = compiled.mask.map((block) => ({
    ...block,
    kept: block.kept.map((p) => (block.layer === "b" ? p ^ 1 : p)),
  }));
  await expect(selfCheck({ ...compiled, mask }, feeds)).rejects.toThrow(
    /^self-check: layer b: expected its gradient to agree/,
  );
});

test("a gradient that depends on the rest of the batch is found", async () => {
  const { compiled, feeds } = await compiledWithFeeds("mlp", "cross-entropy");
  const model = onnxProto.onnx.ModelProto.decode(compiled.graph);
  const last = model.graph?.node?.find((node) => node.output?.includes("gradient"));
  if (!last?.input?.[0]) throw new Error("expected a node that gives the gradient");
  model.graph?.node?.push({ opType: "CumSum", input: ["own", "axis"], output: ["gradient"] });
  last.output = ["own"];
  model.graph?.initializer?.push({ name: "axis", dims: [], dataType: 6, int32Data: [0] });
  const graph = onnxProto.onnx.ModelProto.encode(model).finish();
  await expect(selfCheck({ ...compiled, graph }, feeds)).rejects.toThrow(/example 1 to have the same gradient alone/);
});
