/**
 * A training step as one ONNX graph: parameters and the optimiser's state are inputs, the batch's mean loss, its gradients and the
 * updated parameters and state outputs. One session runs any number of steps; parameters never pass through JavaScript.
 */
import { readFileSync } from "node:fs";
import onnxProto, { type onnx } from "onnx-proto";
import * as ort from "onnxruntime-node";
import { type LossKind, lossOf } from "../autodiff/losses.ts";
import { type CompileOptions, differentiate, named, pruned } from "../compile/compile.ts";
import { ELEMENT, type Port, type Value } from "../onnx/graph.ts";
import { readModel, writeModel } from "../onnx/model.ts";
import { extents, numbersOf, tensorOf } from "../onnx/tensor.ts";
import { batchGradients } from "./backward.ts";
import { type Optimiser, updateOf } from "./optimiser.ts";

export interface TrainingOptions {
  loss: LossKind;
  output?: string;
  /** Patterns of the parameters that train; by default all. */
  layers?: string[];
  /** For next-token, per example: the mean over its positions (the default) or their sum. */
  reduction?: NonNullable<CompileOptions["reduction"]>;
  optimiser: Optimiser;
  threads?: number;
}

/** Parameters by name, in the model's own layout. */
export type Parameters = Map<string, ort.Tensor>;

export interface Trainer {
  /** Parameters and state as the model file has them, the state zero. */
  start(): State;
  /** One step on a batch of feeds (the model's inputs and `target`); returns the mean loss before it. Updates `state` in place. */
  step(state: State, feeds: Record<string, ort.Tensor>, learningRate: number): Promise<number>;
  /** Each example's loss at these parameters. */
  losses(state: State, feeds: Record<string, ort.Tensor>): Promise<Float32Array>;
  release(): Promise<void>;
}

export interface State {
  steps: number;
  parameters: Parameters;
  /** The optimiser's moments, by the names of the graph's inputs. */
  moments: Map<string, ort.Tensor>;
}

/** A session that trains the model at `modelPath`. Throws as `compileGradient` does. */
export async function openTrainer(modelPath: string, options: TrainingOptions): Promise<Trainer> {
  const model = await readModel(modelPath);
  const { b, graph, loss, target, layers } = differentiate(model, modelPath, options);
  const output = b.value(options.output ?? graph.outputs[0]?.name ?? "");
  // The nodes of this loss are in the graph already, and equal nodes are added once.
  const { cotangent } = lossOf(b, options.loss, output, target && b.value(target.name), options.reduction ?? "mean");
  const names = layers.flatMap((layer) => layer.parameters.map(({ name }) => name));
  // The mean over the batch: every cotangent is divided by its size once, where it starts.
  const size = b.cast(b.extent(b.batch), loss.type);
  const mean = b.div(b.sum(loss, [0]), b.reshape(size, []));
  const gradients = batchGradients(b, new Map([[output.name, b.div(cotangent, size)]]), new Set(names));
  const initial = new Map(names.map((name) => [name, tensorFor(b.initializers.get(name))] as const));
  const update = updateOf(b, options.optimiser, gradients);
  // What trains is an input of the same name, no longer a constant of the model.
  const trained = new Set(names);
  const ports: Port[] = names.map((name) => {
    const { type, shape } = b.value(name);
    return { name, type, shape: shape.map(Number) };
  });
  const session = (wanted: Value[]) => {
    const part = pruned(b, graph, wanted);
    const used = new Set(part.nodes.flatMap((node) => node.inputs));
    const bytes = writeModel({
      ...part,
      // The optimiser's inputs are of no use to the losses, and the target to neither if the model gives its own loss.
      inputs: [...part.inputs, ...ports].filter(({ name }) => used.has(name)),
      initializers: new Map([...part.initializers].filter(([name]) => !trained.has(name))),
    });
    return ort.InferenceSession.create(bytes, {
      intraOpNumThreads: options.threads ?? 2,
      interOpNumThreads: 1,
      executionMode: "sequential",
      logSeverityLevel: 3,
    });
  };
  const each = named(b, b.cast(loss, ELEMENT.float32), "loss");
  const stepping = await session([named(b, mean, "mean loss"), ...update.outputs]);
  const measuring = await session([each]);
  const scalar = (value: number) => new ort.Tensor("float32", [value], []);
  return {
    start: () => ({
      steps: 0,
      parameters: new Map(initial),
      moments: new Map(
        update.moments.map(({ name, shape }) => [
          name,
          new ort.Tensor("float32", new Float32Array(shape.reduce((a, x) => a * x, 1)), shape),
        ]),
      ),
    }),
    step: async (state, feeds, learningRate) => {
      state.steps++;
      const results = await stepping.run({
        ...feeds,
        ...Object.fromEntries(state.parameters),
        ...Object.fromEntries(state.moments),
        ...Object.fromEntries(
          Object.entries(update.scalars(learningRate, state.steps)).map(([name, value]) => [name, scalar(value)]),
        ),
      });
      const take = (name: string) => {
        const tensor = results[name];
        if (!tensor) throw new Error(`training step: expected output ${name}, got ${Object.keys(results).join(", ")}`);
        return tensor;
      };
      for (const name of state.parameters.keys()) state.parameters.set(name, take(update.next(name)));
      for (const name of state.moments.keys()) state.moments.set(name, take(update.next(name)));
      return Number(take("mean loss").data[0]);
    },
    losses: async (state, feeds) => {
      const { loss: each } = await measuring.run({ ...feeds, ...Object.fromEntries(state.parameters) });
      if (!(each?.data instanceof Float32Array)) throw new Error(`losses: expected float32, got ${each?.type}`);
      return each.data;
    },
    release: async () => {
      await stepping.release();
      await measuring.release();
    },
  };
}

function tensorFor(tensor: onnx.ITensorProto | undefined): ort.Tensor {
  if (!tensor || tensor.dataType !== ELEMENT.float32) {
    throw new Error(`parameter ${tensor?.name}: expected float32 inside the model file, got another type or none`);
  }
  return new ort.Tensor("float32", Float32Array.from(numbersOf(tensor)), extents(tensor));
}

/** The model's bytes with other parameters. */
export function withParameters(modelPath: string, parameters: ReadonlyMap<string, ort.Tensor>): Uint8Array {
  const model = onnxProto.onnx.ModelProto.decode(readFileSync(modelPath));
  const initializer = (model.graph?.initializer ?? []).map((tensor) => {
    const trained = parameters.get(tensor.name ?? "");
    if (!(trained?.data instanceof Float32Array)) return tensor;
    return { ...tensorOf(ELEMENT.float32, [...trained.dims], trained.data), name: tensor.name ?? "" };
  });
  return onnxProto.onnx.ModelProto.encode({ ...model, graph: { ...model.graph, initializer } }).finish();
}
