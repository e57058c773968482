/** Rotary positions as an operator (set 23), against their definition: pairs of entries turned by an angle. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { selfCheck } from "../../offline/autodiff/self-check.ts";
import { compileGradient } from "../../offline/compile/compile.ts";
import { ELEMENT, type Graph } from "../../offline/onnx/graph.ts";
import { writeModel } from "../../offline/onnx/model.ts";
import { tensorOf } from "../../offline/onnx/tensor.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "influence-rotary-"));
});
afterAll(() => rm(folder, { recursive: true }));

const [EXAMPLES, HEADS, TIME, SIZE, LONGEST] = [2, 2, 3, 6, 5];
const angle = (place: number, pair: number) => (place + 1) / (pair + 2);

interface Form {
  interleaved: 0 | 1;
  turned: number;
  /** Whether heads lie side by side in an input of rank 3, [B, T, H·E]. */
  flat: boolean;
}

test.each<Form>([
  { interleaved: 0, turned: SIZE, flat: false },
  { interleaved: 1, turned: SIZE, flat: false },
  { interleaved: 0, turned: 4, flat: true },
  { interleaved: 1, turned: 2, flat: true },
])("interleaved $interleaved, $turned of 6 turned, side by side: $flat", async ({ interleaved, turned, flat }) => {
  const half = turned / 2;
  const cache = (f: (x: number) => number) =>
    tensorOf(
      ELEMENT.float32,
      [LONGEST, half],
      Array.from({ length: LONGEST * half }, (_, at) => f(angle(Math.floor(at / half), at % half))),
    );
  const shape = flat ? [TIME, HEADS * SIZE] : [HEADS, TIME, SIZE];
  const last = shape.at(-1) ?? 1;
  const plain = { domain: "", attributes: {} };
  const attributes = { interleaved, num_heads: HEADS, rotary_embedding_dim: turned };
  const graph: Graph = {
    inputs: [
      { name: "x", type: ELEMENT.float32, shape: ["batch", ...shape] },
      { name: "places", type: ELEMENT.int64, shape: ["batch", TIME] },
    ],
    outputs: [{ name: "y", type: ELEMENT.float32, shape: ["batch", ...shape] }],
    initializers: new Map([
      ["scale.weight", tensorOf(ELEMENT.float32, [last], new Array<number>(last).fill(1))],
      ["cos", cache(Math.cos)],
      ["sin", cache(Math.sin)],
    ]),
    nodes: [
      { ...plain, name: "scaled", op: "Mul", inputs: ["x", "scale.weight"], outputs: ["scaled"] },
      {
        ...plain,
        name: "turned",
        op: "RotaryEmbedding",
        inputs: ["scaled", "cos", "sin", "places"],
        outputs: ["y"],
        attributes,
      },
    ],
    opset: 23,
    irVersion: 11,
  };
  const path = join(folder, "model.onnx");
  await writeFile(path, writeModel(graph));
  const options = {
    loss: "squared-error",
    layers: ["scale"],
    r: { perLayer: 100 },
    compressor: "uniform",
    seed: 1,
  } as const;
  const compiled = await compileGradient(path, options);

  const count = EXAMPLES * HEADS * TIME * SIZE;
  const x = Float32Array.from({ length: count }, (_, at) => Math.sin(3 * at + 1));
  const places = [0, 2, 4, 1, 1, 3];
  const at = (b: number, h: number, t: number, e: number) =>
    flat ? ((b * TIME + t) * HEADS + h) * SIZE + e : ((b * HEADS + h) * TIME + t) * SIZE + e;
  const expected = Array.from(x);
  for (let row = 0; row < EXAMPLES * HEADS * TIME; row++) {
    const [b, h, t] = [Math.floor(row / HEADS / TIME), Math.floor(row / TIME) % HEADS, row % TIME];
    for (let pair = 0; pair < half; pair++) {
      const [first, second] = interleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + half];
      const [p, q] = [at(b, h, t, first), at(b, h, t, second)];
      const turn = angle(places[b * TIME + t] ?? 0, pair);
      const [u = 0, v = 0] = [x[p], x[q]];
      expected[p] = u * Math.cos(turn) - v * Math.sin(turn);
      expected[q] = u * Math.sin(turn) + v * Math.cos(turn);
    }
  }
  const feeds = {
    x: new ort.Tensor("float32", x, [EXAMPLES, ...shape]),
    places: new ort.Tensor("int64", BigInt64Array.from(places, BigInt), [EXAMPLES, TIME]),
    target: new ort.Tensor("float32", new Float32Array(count).fill(0.3), [EXAMPLES, ...shape]),
  };
  const { y } = await (await ort.InferenceSession.create(compiled.graph)).run(feeds, ["y"]);
  Array.from(y?.data ?? [], Number).forEach((entry, index) => {
    expect(entry).toBeCloseTo(expected[index] ?? Number.NaN, 5);
  });
  expect((await selfCheck(compiled, feeds)).skipped).toEqual([]);
});
