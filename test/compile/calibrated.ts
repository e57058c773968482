/** Compiling with a compressor that is measured on examples first. */
import type { Tensor } from "onnxruntime-node";
import { type CompiledGradient, type CompileOptions, compileGradient } from "../../offline/compile/compile.ts";
import { calibrate } from "../../offline/compress/calibrate.ts";
import { measureSpectra } from "../../offline/compress/spectra.ts";

/** As `compileGradient` with what it needs, measured on the feeds that are given for the graph's ports. */
export async function compileCalibrated(
  model: string,
  options: CompileOptions,
  feeds: (ports: CompiledGradient) => Record<string, Tensor>,
): Promise<CompiledGradient> {
  const plain = await compileGradient(model, { ...options, compressor: "uniform" });
  const batch = [feeds(plain)];
  const calibration = await calibrate(model, options, batch);
  const spectra = options.compressor === "eigenbasis" ? await measureSpectra(model, options, () => batch) : undefined;
  return compileGradient(model, { ...options, calibration, ...(spectra ? { spectra } : {}) });
}
