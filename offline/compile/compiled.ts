/** Compile: differentiate the model's graph, choose the kept coordinates, and keep both in the run's folder. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import * as z from "zod";
import { FILES, layerSchema } from "../../src/core/manifest.ts";
import { type Layer, type MaskBlock, sampleWithoutReplacement } from "../../src/core/mask.ts";
import { decodeMask, encodeMask, maskShapes } from "../../src/core/mask-file.ts";
import { random } from "../../src/core/random.ts";
import { selfCheck } from "../autodiff/self-check.ts";
import { type Config, configured, DEFAULT_R } from "../command/config.ts";
import type { Run } from "../command/run.ts";
import { beginStep, finishStep, type Settings, type Step } from "../command/step.ts";
import { calibrate, compileCalibration } from "../compress/calibrate.ts";
import type { Calibration } from "../compress/importance.ts";
import { measureSpectra } from "../compress/spectra.ts";
import type { Dataset } from "../dataset/dataset.ts";
import { digestOf, openSplit } from "../dataset/open-datasets.ts";
import { NOT_FINITE_ADVICE } from "../gradients/collect.ts";
import { openGradientSession } from "../gradients/session.ts";
import { type CompiledGradient, type CompileOptions, compileGradient } from "./compile.ts";
import { joinMembers, type Member } from "./ensemble.ts";
import { placeExternalData } from "./external-data.ts";
import type { TensorSpec } from "./tensor-spec.ts";

const { onnx } = onnxProto;

const tensorSpec = z.object({ name: z.string(), type: z.string(), shape: z.array(z.union([z.number(), z.string()])) });
const recordSchema = z.object({
  graphSha256: z.string(),
  dimension: z.int(),
  /** What mask.bin beside this file holds. */
  layers: z.array(layerSchema.omit({ damping: true, trace: true })),
  inputs: z.array(tensorSpec),
  target: tensorSpec.nullable(),
  outputs: z.array(z.string()),
  calibrationExamples: z.int(),
  externalData: z.array(z.string()),
  /** Of an ensemble; 1 where there is none. */
  members: z.int().default(1),
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
  /** Masks or models, whose influences are averaged: blocks of R/members coordinates, one after another. */
  members: number;
  /** Examples that the coordinates' importance was measured on; 0 where it was not. */
  calibrationExamples: number;
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

/** The models' paths: several are an ensemble. Throws an Error when the configuration names none, or one is not there. */
function modelPaths(config: Config): string[] {
  if (config.model === undefined)
    throw new Error("model: expected an ONNX file; set `model`, or `gradients` in every split");
  return [config.model].flat().map((model) => {
    const path = configured(config, model);
    if (!existsSync(path))
      throw new Error(`no such model: ${path}; set \`model\` in the configuration to an ONNX file`);
    return path;
  });
}

/** The model's path. Throws an Error when there is none, or several. */
export function modelPath(config: Config): string {
  const paths = modelPaths(config);
  if (paths.length > 1) throw new Error(`model: expected one ONNX file here, got ${paths.length}; name one of them`);
  return paths[0]!;
}

/** What the compiler is told, from the configuration. */
export function compileOptions(config: Config): CompileOptions {
  return {
    loss: config.loss,
    r: config.r ?? DEFAULT_R,
    compressor: config.compressor,
    seed: config.seed,
    ...(config.reduction === undefined ? {} : { reduction: config.reduction }),
    ...(config.output === undefined ? {} : { output: config.output }),
    ...(config.layers === undefined ? {} : { layers: config.layers }),
  };
}

function writeCompiled(
  folder: string,
  model: string,
  compiled: CompiledGradient,
  calibration: Calibration | null,
  classes: number | null,
  members: number,
): void {
  writeFileSync(join(folder, "gradient.onnx"), compiled.graph);
  placeExternalData(model, compiled.externalData, folder);
  if (calibration) writeFileSync(join(folder, "calibration.json"), JSON.stringify(calibration));
  const record: z.infer<typeof recordSchema> = {
    graphSha256: sha256(compiled.graph),
    dimension: compiled.dimension,
    layers: maskShapes(compiled.layers, compiled.mask),
    inputs: compiled.inputs,
    target: compiled.target,
    outputs: compiled.outputs,
    externalData: compiled.externalData,
    members,
    calibrationExamples: calibration?.examples ?? 0,
    classes,
  };
  writeFileSync(join(folder, FILES.mask), encodeMask(compiled.mask));
  writeFileSync(join(folder, "compiled.json"), `${JSON.stringify(record)}\n`);
}

/**
 * Sums of squares over random training examples, for importance; null for a compressor that needs none. Examples that are not
 * finite are treated as collecting treats them: refused by id, or left out.
 */
async function calibration(run: Run, model: string, options: CompileOptions): Promise<Calibrated | null> {
  if (!CALIBRATED.has(options.compressor)) return null;
  const { config } = run;
  const { inputs, target } = await compileCalibration(model, options);
  const train = await openSplit(run, config.train, { inputs, target, classes: null });
  const draw = random(config.seed, "calibrate").below;
  const rows = await train.order([...sampleWithoutReplacement(train.n, Math.min(train.n, config.calibrate), draw)]);
  const measured = await calibrate(model, options, batchesOf(train, rows, config.batch));
  if (finiteSums(measured)) return withSpectra(run, model, options, measured, train, rows);

  const { graph } = await compileGradient(model, { ...options, compressor: "uniform", r: { perLayer: 1 } });
  const session = await openGradientSession(graph);
  const finite: number[] = [];
  for (const row of rows) {
    const { loss } = await session.run(await train.feeds([row]));
    if (Number.isFinite(Number(loss?.data[0]))) finite.push(row);
    else if (run.onNan === "fail")
      throw new Error(`example ${await train.ids([row])}: its loss is not finite; ${NOT_FINITE_ADVICE}`);
  }
  await session.release();
  const again = finite.length > 0 ? await calibrate(model, options, batchesOf(train, finite, config.batch)) : null;
  if (again && finiteSums(again)) return withSpectra(run, model, options, again, train, finite);
  throw new Error(
    "calibration: expected finite gradients of the examples it is measured on; set `compressor: uniform`, or check the model",
  );
}

/** What the compiler is given of the training examples. */
type Calibrated = Required<Pick<CompileOptions, "calibration">> & Pick<CompileOptions, "spectra">;

const CALIBRATED = new Set<CompileOptions["compressor"]>(["importance", "sjlt", "eigenbasis"]);

/** Adds the eigenvectors, for the compressor that needs them. */
async function withSpectra(
  { config }: Run,
  model: string,
  options: CompileOptions,
  measured: Calibration,
  train: Dataset,
  rows: readonly number[],
): Promise<Calibrated> {
  if (options.compressor !== "eigenbasis") return { calibration: measured };
  const batch = Math.min(config.batch, SPECTRA_BATCH);
  const spectra = await measureSpectra(model, options, () => batchesOf(train, rows, batch));
  return { calibration: measured, spectra };
}

async function* batchesOf(dataset: Dataset, rows: readonly number[], batch: number) {
  for (let at = 0; at < rows.length; at += batch) yield dataset.feeds(rows.slice(at, at + batch));
}

const finiteSums = ({ sums }: Calibration): boolean =>
  Object.values(sums).every((uses) => uses.every(({ x, d }) => x.every(Number.isFinite) && d.every(Number.isFinite)));

/** Examples whose patches and cotangents are held at once. */
const SPECTRA_BATCH = 20;

/** Examples that the self-check looks at, of the first few. */
const CHECKED = 4;
const CANDIDATES = 16;

/** Checks the graph on examples whose gradients are finite. Throws an Error that names the example when none is, or the layer that fails. */
async function checkOnExamples(run: Run, compiled: CompiledGradient, classes: number | null): Promise<void> {
  const { inputs, target, dimension } = compiled;
  const train = await openSplit(run, run.config.train, { inputs, target, classes });
  const rows = Array.from({ length: Math.min(train.n, CANDIDATES) }, (_, row) => row);
  const session = await openGradientSession(compiled.graph);
  const { gradient } = await session.run(await train.feeds(rows));
  await session.release();
  const values = gradient?.data;
  if (!(values instanceof Float32Array)) throw new Error("gradient.onnx: expected a float32 output named gradient");
  const finite = rows.filter((row) => values.subarray(row * dimension, (row + 1) * dimension).every(Number.isFinite));
  if (finite.length === 0)
    throw new Error(
      `example ${await train.ids([0])}: its gradient is not finite, nor is that of the next ${rows.length - 1}; check the dataset and the model`,
    );
  await selfCheck(compiled, await train.feeds(finite.slice(0, CHECKED)));
}

interface CompiledMember extends Member {
  calibration: Calibration | null;
  classes: number | null;
}

/** The members of the configured ensemble, each checked on examples; one where there is none. */
async function compileMembers(run: Run, models: readonly string[]): Promise<CompiledMember[]> {
  const { config } = run;
  const options = compileOptions(config);
  const masks = config.ensemble?.masks ?? 1;
  const members: CompiledMember[] = [];
  for (const [index, model] of models.entries()) {
    const measured = await calibration(run, model, options);
    for (let mask = 1; mask <= masks; mask++) {
      const seed = masks > 1 ? `${config.seed}/${mask}` : config.seed;
      const compiled = await compileGradient(model, { ...options, ...measured, seed });
      if (models.length > 1 && compiled.externalData.length > 0)
        throw new Error(`${model}: expected weights within the file in an ensemble of models, got external data`);
      const classes =
        config.loss === "cross-entropy" ? lastExtent(compiled.graph, config.output ?? compiled.outputs[0]) : null;
      if (compiled.externalData.length === 0) await checkOnExamples(run, compiled, classes);
      const name = [models.length > 1 ? `model ${index + 1}` : "", masks > 1 ? `mask ${mask}` : ""]
        .filter(Boolean)
        .join(", ");
      members.push({ name, compiled, calibration: measured?.calibration ?? null, classes });
    }
  }
  return members;
}

export async function compileStep(run: Run): Promise<Compiled> {
  const { config } = run;
  const models = modelPaths(config);
  const options = compileOptions(config);
  const digests = models.map((model) => sha256(readFileSync(model)));
  const settings: Settings = {
    model: digests.length === 1 ? digests[0]! : sha256(digests.join()),
    ...(config.ensemble ? { masks: config.ensemble.masks } : {}),
    ...Object.fromEntries(
      Object.entries(options).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : value]),
    ),
    ...(CALIBRATED.has(config.compressor) ? { calibrate: config.calibrate, train: digestOf(run, config.train) } : {}),
  };
  let step = beginStep(run.folder, "compile", settings, true);
  if (step.finished) run.progress.skipped("compile", "already done");
  else {
    const progress = run.progress.step("compile", 1, "graph");
    const members = await compileMembers(run, models);
    const [first] = members;
    const compiled = members.length > 1 ? joinMembers(members) : first!.compiled;
    writeCompiled(step.folder, models[0]!, compiled, first!.calibration, first!.classes, members.length);
    step = finishStep(step);
    progress.advance(1);
    const d = compiled.layers.reduce((sum, layer) => sum + layer.d, 0);
    progress.done(`${compiled.layers.length} layers, R = ${compiled.dimension} of d = ${d}, checked on examples`);
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
    layers: record.layers.map(({ name, d, parameters }) => ({
      name,
      d,
      parameters: parameters.map((parameter) => ({ name: parameter.name, shape: parameter.shape })),
    })),
    mask: decodeMask(readFileSync(join(step.folder, FILES.mask)), record.layers),
    logits: config.loss === "cross-entropy" ? (config.output ?? record.outputs[0] ?? null) : null,
  };
}
