/** Weights in files of their own: onnxruntime reads them only from the folder of the graph's file, and follows no link out of it. */
import { constants, copyFileSync, linkSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import * as ort from "onnxruntime-node";
import type { Graph } from "../onnx/graph.ts";
import { isExternal } from "../onnx/tensor.ts";

/** The files that hold initialisers of the graph, as it names them. */
export function externalFiles({ initializers }: Pick<Graph, "initializers">): string[] {
  const files = [...initializers.values()].flatMap((tensor) =>
    isExternal(tensor)
      ? (tensor.externalData ?? []).flatMap(({ key, value }) => (key === "location" && value ? [value] : []))
      : [],
  );
  return [...new Set(files)];
}

/** The model's files in another folder too: the same bytes on disk where the file system allows that, else copies. */
export function placeExternalData(model: string, files: readonly string[], folder: string): void {
  for (const file of files) {
    const [from, to] = [resolve(dirname(model), file), join(folder, file)];
    try {
      linkSync(from, to);
    } catch {
      copyFileSync(from, to, constants.COPYFILE_FICLONE);
    }
  }
}

let written = 0;

/**
 * A session of a graph made from the model at `modelPath`; where the graph has weights in other files, from a file beside the model that
 * is gone when the session is there. Throws if that folder cannot be written to.
 */
export async function sessionBeside(modelPath: string, graph: Uint8Array, external: boolean) {
  if (!external) return ort.InferenceSession.create(graph);
  const path = join(dirname(modelPath), `.influence-${process.pid}-${written++}.onnx`);
  writeFileSync(path, graph);
  try {
    return await ort.InferenceSession.create(path);
  } finally {
    rmSync(path);
  }
}
