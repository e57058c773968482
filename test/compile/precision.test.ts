/** Weights of 16 bits: the gradient is that of the same weights in float32. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileGradient } from "../../offline/compile/compile.ts";
import { ELEMENT, type Graph } from "../../offline/onnx/graph.ts";
import { readModel, writeModel } from "../../offline/onnx/model.ts";
import { numbersOf } from "../../offline/onnx/tensor.ts";
import { feedsOf, relativeError, runner } from "./run.ts";
import { readSafetensors } from "./safetensors.ts";

const zoo = (name: string) => fileURLToPath(new URL(`../../fixtures/zoo/${name}`, import.meta.url));
const { arrays } = readSafetensors(zoo("cnn.safetensors"));
const BIAS = { float16: 15, bfloat16: 127 };
const FRACTION = { float16: 10, bfloat16: 7 };

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-precision-"));
});
afterAll(() => rm(folder, { recursive: true }));

type Half = keyof typeof BIAS;

/** A normal number of the type with its fraction cut off: [bits, value]; numbers too small for it become zero. */
function cut(x: number, type: Half): [number, number] {
  const exponent = Math.floor(Math.log2(Math.abs(x)));
  if (x === 0 || exponent <= -BIAS[type]) return [0, 0];
  const fraction = Math.floor((Math.abs(x) / 2 ** exponent - 1) * 2 ** FRACTION[type]);
  const bits = (x < 0 ? 0x8000 : 0) | ((exponent + BIAS[type]) << FRACTION[type]) | fraction;
  return [bits, Math.sign(x) * 2 ** exponent * (1 + fraction / 2 ** FRACTION[type])];
}

/** The classifier with weights of the type, its input and output float32; or with the same weights in float32. */
function withWeights(model: Graph, type: Half, wide: boolean): { graph: Graph; external: Uint8Array } {
  const weights = [...model.initializers].flatMap(([name, tensor]) =>
    tensor.dataType === ELEMENT.float32
      ? [{ name, dims: tensor.dims ?? [], cuts: numbersOf(tensor).map((x) => cut(x, type)) }]
      : [],
  );
  const initializers = new Map(model.initializers);
  for (const { name, dims, cuts } of weights) {
    const values = Float32Array.from(cuts, ([, value]) => value);
    const halves = Uint16Array.from(cuts, ([bits]) => bits);
    const rawData = new Uint8Array((wide ? values : halves).buffer);
    initializers.set(name, { dims, dataType: wide ? ELEMENT.float32 : ELEMENT[type], rawData });
  }
  if (wide) return { graph: { ...model, initializers }, external: new Uint8Array() };
  const [input, output] = [model.inputs[0]?.name ?? "", model.outputs[0]?.name ?? ""];
  const renamed = (name: string) => (name === input ? "narrow" : name === output ? "result" : name);
  const cast = (from: string, to: string, type: number) => ({
    name: to,
    op: "Cast",
    domain: "",
    inputs: [from],
    outputs: [to],
    attributes: { to: type },
  });
  const nodes = model.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(renamed),
    outputs: node.outputs.map(renamed),
  }));
  const all = [cast(input, "narrow", ELEMENT[type]), ...nodes, cast("result", output, ELEMENT.float32)];
  // The first weight's data are kept in a file beside the model.
  const [first] = weights;
  const external = initializers.get(first?.name ?? "")?.rawData ?? new Uint8Array();
  const beside = {
    dims: first?.dims ?? [],
    dataType: ELEMENT[type],
    dataLocation: 1,
    externalData: [{ key: "location", value: "weights" }],
  };
  if (type === "bfloat16") initializers.set(first?.name ?? "", beside);
  return { graph: { ...model, initializers, nodes: all }, external };
}

async function gradientOf(graph: Graph, external: Uint8Array): Promise<Float32Array> {
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel(graph));
  await writeFile(join(folder, "weights"), external);
  const options = { loss: "cross-entropy", r: { perLayer: 100 }, compressor: "uniform", seed: 1 } as const;
  const compiled = await compileGradient(path, options);
  await writeFile(join(folder, "gradient.onnx"), compiled.graph);
  expect(compiled.inputs.map(({ type }) => type)).toEqual(["float32"]);
  return (await (await runner(join(folder, "gradient.onnx")))(feedsOf(compiled, arrays))).gradient;
}

test.each([
  ["bfloat16", 1e-6],
  ["float16", 5e-3],
] as const)("%s", async (type, tolerance) => {
  const model = await readModel(zoo("cnn.onnx"));
  const [narrow, wide] = [withWeights(model, type, false), withWeights(model, type, true)];
  const expected = await gradientOf(wide.graph, wide.external);
  const got = await gradientOf(narrow.graph, narrow.external);
  expect(expected.some((entry) => entry !== 0)).toBe(true);
  expect(relativeError(got, expected)).toBeLessThan(tolerance);
});
