/** Compile: differentiate the model's graph, choose the kept coordinates, and keep both in the run's folder. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import onnxProto from "onnx-proto";
import * as z from "zod";
import type { Layer, MaskBlock } from "../src/core/mask.ts";
import { type CompiledGradient, type CompileOptions, compileGradient } from "./compile.ts";
import { type Config, configured, DEFAULT_R } from "./config.ts";
import type { Run } from "./run.ts";
import { beginStep, finishStep, type Settings, type Step } from "./step.ts";
import type { TensorSpec } from "./tensor-spec.ts";

const { onnx } = onnxProto;

const tensorSpec = z.object({ name: z.string(), type: z.string(), shape: z.array(z.union([z.number(), z.string()])) });
const recordSchema = z.object({
  graphSha256: z.string(),
  dimension: z.int(),
  layers: z.array(
    z.object({
      name: z.string(),
      d: z.int(),
      parameters: z.array(z.object({ name: z.string(), shape: z.array(z.int()) })),
    }),
  ),
  mask: z.array(z.object({ layer: z.string(), offset: z.int(), d: z.int(), kept: z.array(z.int()) })),
  inputs: z.array(tensorSpec),
  target: tensorSpec.nullable(),
  outputs: z.array(z.string()),
  externalData: z.array(z.string()),
  /** Extent of the last axis of the output that the loss reads, when the loss is a classification. */
  classes: z.int().nullable(),
});

/** What `compile` left in its folder. */
export interface Compiled {
  step: Step;
  /** The settings that it was compiled with. */
  settings: Settings;
  /** Path of gradient.onnx. */
  graph: string;
  graphSha256: string;
  dimension: number;
  layers: Layer[];
  mask: MaskBlock[];
  inputs: TensorSpec[];
  target: TensorSpec | null;
  externalData: string[];
  /** The output whose argmax is the prediction. */
  logits: string | null;
  classes: number | null;
}

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");

/** The last extent of a graph output, null where the graph leaves it open. */
function lastExtent(graph: Uint8Array, output: string | undefined): number | null {
  const info = onnx.ModelProto.decode(graph).graph?.output?.find(({ name }) => name === output);
  const extent = info?.type?.tensorType?.shape?.dim?.at(-1)?.dimValue;
  return extent ? Number(extent) : null;
}

/** The model's path. Throws an Error when the configuration names none, or it is not there. */
export function modelPath(config: Config): string {
  if (config.model === undefined)
    throw new Error("model: expected an ONNX file; set `model`, or `gradients` in every split");
  const path = configured(config, config.model);
  if (!existsSync(path)) throw new Error(`no such model: ${path}; set \`model\` in the configuration to an ONNX file`);
  return path;
}

/** What the compiler is told, from the configuration. */
export function compileOptions(config: Config): CompileOptions {
  return {
    loss: config.loss,
    r: config.r ?? DEFAULT_R,
    compressor: config.compressor,
    seed: config.seed,
    ...(config.output === undefined ? {} : { output: config.output }),
    ...(config.layers === undefined ? {} : { layers: config.layers }),
  };
}

function writeCompiled(folder: string, model: string, compiled: CompiledGradient, config: Config): void {
  writeFileSync(join(folder, "gradient.onnx"), compiled.graph);
  for (const file of compiled.externalData) symlinkSync(resolve(dirname(model), file), join(folder, file));
  const record: z.infer<typeof recordSchema> = {
    graphSha256: sha256(compiled.graph),
    dimension: compiled.dimension,
    layers: compiled.layers,
    mask: compiled.mask.map((block) => ({ ...block, kept: [...block.kept] })),
    inputs: compiled.inputs,
    target: compiled.target,
    outputs: compiled.outputs,
    externalData: compiled.externalData,
    classes: config.loss === "cross-entropy" ? lastExtent(compiled.graph, config.output ?? compiled.outputs[0]) : null,
  };
  writeFileSync(join(folder, "compiled.json"), `${JSON.stringify(record)}\n`);
}

export async function compileStep(run: Run): Promise<Compiled> {
  const { config } = run;
  const model = modelPath(config);
  const options = compileOptions(config);
  const settings: Settings = {
    model: sha256(readFileSync(model)),
    ...Object.fromEntries(
      Object.entries(options).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : value]),
    ),
  };
  let step = beginStep(run.folder, "compile", settings, true);
  if (step.finished) run.progress.skipped("compile", "already done");
  else {
    const progress = run.progress.step("compile", 1, "graph");
    const compiled = await compileGradient(model, options);
    writeCompiled(step.folder, model, compiled, config);
    step = finishStep(step);
    progress.advance(1);
    const d = compiled.layers.reduce((sum, layer) => sum + layer.d, 0);
    progress.done(`${compiled.layers.length} layers, R = ${compiled.dimension} of d = ${d}`);
  }
  const record = recordSchema.parse(JSON.parse(readFileSync(join(step.folder, "compiled.json"), "utf8")));
  const graph = join(step.folder, "gradient.onnx");
  const got = sha256(readFileSync(graph));
  if (got !== record.graphSha256) {
    throw new Error(
      `${graph}: expected sha256 ${record.graphSha256}, got ${got}; delete ${step.folder} and compile again`,
    );
  }
  return {
    ...record,
    step,
    settings,
    graph,
    mask: record.mask.map((block) => ({ ...block, kept: Uint32Array.from(block.kept) })),
    logits: config.loss === "cross-entropy" ? (config.output ?? record.outputs[0] ?? null) : null,
  };
}
