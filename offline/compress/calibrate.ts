/** Calibration: the graph that gives Σx² and Σδ² of every chosen parameter, and running it over a batch or more. */
import type * as ort from "onnxruntime-node";
import {
  type CompileOptions,
  type Differentiable,
  describe,
  differentiate,
  type GraphInput,
  named,
  pruned,
} from "../compile/compile.ts";
import { externalFiles, sessionBeside } from "../compile/external-data.ts";
import { readModel, writeModel } from "../onnx/model.ts";
import type { Calibration } from "./importance.ts";

export interface CalibrationGraph {
  /** Inputs as those of gradient.onnx; three outputs a use of each parameter. */
  graph: Uint8Array;
  inputs: GraphInput[];
  target: GraphInput | null;
  uses: { parameter: string; x: string; d: string; count: string }[];
  /** Whether some of its weights lie in other files. */
  external: boolean;
}

type Chosen = Pick<CompileOptions, "loss" | "output" | "layers" | "reduction">;

/** Throws as `compileGradient` does. */
export async function compileCalibration(modelPath: string, options: Chosen): Promise<CalibrationGraph> {
  return calibrationGraph(differentiate(await readModel(modelPath), modelPath, options));
}

function calibrationGraph({ b, graph, target, gradients, layers }: Differentiable): CalibrationGraph {
  const uses: CalibrationGraph["uses"] = [];
  const outputs = layers.flatMap((layer) =>
    layer.parameters.flatMap(({ name }) =>
      (gradients.get(name)?.factors ?? []).flatMap((factors, use) => {
        const { x, d, count } = factors.sums();
        const names = { x: `x²/${name}/${use}`, d: `δ²/${name}/${use}`, count: `N/${name}/${use}` };
        uses.push({ parameter: name, ...names });
        return [named(b, x, names.x), named(b, d, names.d), named(b, b.reshape(count, [1]), names.count)];
      }),
    ),
  );
  const inputs = b.inputs.filter((port) => port !== target).map(describe);
  return {
    graph: writeModel(pruned(b, graph, outputs)),
    inputs,
    target: target && describe(target),
    uses,
    external: externalFiles(b).length > 0,
  };
}

/** Runs the calibration graph over batches of feeds (inputs and target) and adds up. */
export async function calibrate(
  modelPath: string,
  options: Chosen,
  batches: Iterable<Record<string, ort.Tensor>> | AsyncIterable<Record<string, ort.Tensor>>,
): Promise<Calibration> {
  const { graph, uses, external } = await compileCalibration(modelPath, options);
  const session = await sessionBeside(modelPath, graph, external);
  const sums: Calibration["sums"] = {};
  let examples = 0;
  for await (const feeds of batches) {
    const results = await session.run(feeds);
    examples += Math.max(...Object.values(feeds).map((tensor) => tensor.dims[0] ?? 0));
    const seen = new Map<string, number>();
    for (const { parameter, x, d, count } of uses) {
      const use = seen.get(parameter) ?? 0;
      seen.set(parameter, use + 1);
      sums[parameter] ??= [];
      const list = sums[parameter];
      list[use] ??= { x: [], d: [], count: 0 };
      const total = list[use];
      total.x = added(total.x, floats(results[x]));
      total.d = added(total.d, floats(results[d]));
      total.count += floats(results[count])[0] ?? 0;
    }
  }
  await session.release();
  if (examples === 0) throw new Error("calibration: expected at least one batch of examples, got none");
  return { examples, sums };
}

const added = (total: readonly number[], more: Float32Array): number[] =>
  Array.from(more, (entry, index) => entry + (total[index] ?? 0));

function floats(tensor: ort.Tensor | undefined): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw new Error(`calibration: expected float32 sums, got ${tensor?.type}`);
}
