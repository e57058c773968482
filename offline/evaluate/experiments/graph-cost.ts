/**
 * What a compressor costs inside gradient.onnx, where the whole gradient never exists: one dense layer of 16 examples, its inputs x
 * and cotangents δ at hand. Dropout by the compiler's own plan; LoGra as two thin products and one of their results, which is the
 * same cost whether its factors are random or learnt; eigenbasis dropout as that with more directions, of which entries are picked.
 */
import * as ort from "onnxruntime-node";
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { outerProduct } from "../../autodiff/outer.ts";
import { type Builder, createBuilder } from "../../onnx/builder.ts";
import { ELEMENT, type Graph, type Value } from "../../onnx/graph.ts";
import { writeModel } from "../../onnx/model.ts";
import { WIDER } from "../compress/eigenbasis.ts";
import { fillNormal } from "../compress/gaussian.ts";
import type { Measurement } from "../measurement.ts";
import { median } from "../statistics.ts";

const BATCH = 16;
type Make = (b: Builder, x: Value, d: Value) => Value;

/** Seconds of one run on one thread, each call. */
async function timed(positions: number, width: number, make: Make): Promise<() => Promise<number>> {
  const shape = ["batch", positions, width];
  const port = (name: string) => ({ name, type: ELEMENT.float32, shape });
  const inputs = [port("x"), port("d")];
  const graph: Graph = { inputs, outputs: [], initializers: new Map(), nodes: [], opset: 18, irVersion: 10 };
  const b = createBuilder(graph, "batch");
  const result = make(b, b.value("x"), b.value("d"));
  const used = inputs.filter(({ name }) => b.nodes.some((node) => node.inputs.includes(name)));
  const bytes = writeModel({
    ...graph,
    inputs: used,
    outputs: [{ name: result.name, type: result.type, shape: result.shape }],
    initializers: b.initializers,
    nodes: b.nodes,
  });
  const session = await ort.InferenceSession.create(bytes, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const entries = new Float32Array(BATCH * positions * width);
  fillNormal(entries, random(1, "graph cost"), 1);
  const feeds = Object.fromEntries(
    used.map(({ name }) => [name, new ort.Tensor("float32", entries, [BATCH, positions, width])]),
  );
  return async () => {
    const started = performance.now();
    await session.run(feeds);
    return (performance.now() - started) / 1000;
  };
}

/** Seconds a batch, and in units of the layer's own forward product. The methods take turns. */
export async function graphCost(
  positions: number,
  width: number,
  sizes: readonly number[],
  rounds: number,
): Promise<Measurement[]> {
  const weight = (b: Builder, columns: number) => {
    const entries = new Float32Array(width * columns);
    fillNormal(entries, random(columns, "graph cost"), 1);
    return b.constant(ELEMENT.float32, [width, columns], entries);
  };
  const runs = [
    { what: "forward", r: 0, run: await timed(positions, width, (b, x) => b.op("MatMul", [x, weight(b, width)])) },
  ];
  for (const r of sizes) {
    const kept = [...sampleWithoutReplacement(width * width, r, random(1, "kept").below)];
    const side = Math.floor(Math.sqrt(r));
    const dropout: Make = (b, x, d) => {
      const rows = (at: number): [number, number] => [Math.floor(at / width), at % width];
      const position = (p: number, q: number) => p * width + q;
      const use = { x, xAxes: [2], d, dAxes: [2], shared: 1, scale: 1, rows, position };
      return outerProduct(b, [width, width], use).at(kept);
    };
    const rotated = (b: Builder, x: Value, d: Value, directions: number) =>
      b.op("MatMul", [
        b.transpose(b.op("MatMul", [x, weight(b, directions)]), [0, 2, 1]),
        b.op("MatMul", [d, weight(b, directions)]),
      ]);
    const logra: Make = (b, x, d) => rotated(b, x, d, side);
    // At most four times as many directions a side, and the kept entries picked from their product.
    const eigenbasis: Make = (b, x, d) => {
      const directions = Math.min(width, WIDER * side);
      const entries = b.reshape(rotated(b, x, d, directions), ["batch", directions * directions]);
      return b.gather(entries, [...sampleWithoutReplacement(directions ** 2, r, random(1, "kept").below)], 1);
    };
    runs.push({ what: "dropout", r, run: await timed(positions, width, dropout) });
    runs.push({ what: "LoGra", r, run: await timed(positions, width, logra) });
    runs.push({ what: "eigenbasis dropout", r, run: await timed(positions, width, eigenbasis) });
  }
  const seconds = runs.map((): number[] => []);
  for (let round = -1; round < rounds; round++) {
    for (const [index, { run }] of runs.entries()) {
      const taken = await run();
      if (round >= 0) seconds[index]?.push(taken);
    }
  }
  const forward = median(seconds[0] ?? [1]);
  return runs.map(({ what, r }, index) => ({
    of: { what: r === 0 ? what : `${what}, r = ${r}`, kind: "in the graph", n: BATCH, d: width * width },
    seed: 1,
    values: { seconds: median(seconds[index] ?? []), "of a forward product": median(seconds[index] ?? []) / forward },
  }));
}
