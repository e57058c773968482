/** A model whose weights lie in a file of their own, compiled and run as one that holds them. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { placeExternalData } from "../../offline/compile/external-data.ts";
import { compileCalibrated } from "./calibrated.ts";
import { digitFeeds, digitModel } from "./digits.ts";
import { feedsOf, runner } from "./run.ts";

const { ModelProto, TensorProto } = onnxProto.onnx;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "influence-external-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The digit classifier with its float weights in weights.bin beside it. */
function withExternalWeights(path: string): void {
  const model = ModelProto.decode(readFileSync(digitModel));
  const bytes: Buffer[] = [];
  for (const tensor of model.graph?.initializer ?? []) {
    const raw = Buffer.from(tensor.rawData ?? []);
    if (tensor.dataType !== TensorProto.DataType.FLOAT || raw.length === 0) continue;
    const offset = bytes.reduce((sum, { length }) => sum + length, 0);
    bytes.push(raw);
    tensor.dataLocation = TensorProto.DataLocation.EXTERNAL;
    tensor.externalData = [
      { key: "location", value: "weights.bin" },
      { key: "offset", value: String(offset) },
      { key: "length", value: String(raw.length) },
    ];
    tensor.rawData = new Uint8Array();
  }
  expect(bytes.length).toBeGreaterThan(0);
  writeFileSync(path, ModelProto.encode(model).finish());
  writeFileSync(join(folder, "weights.bin"), Buffer.concat(bytes));
}

test("gives the same gradients in the same directions, from a folder that holds the weights and no link out of it", async () => {
  const path = join(folder, "model.onnx");
  withExternalWeights(path);
  const options = { loss: "cross-entropy", r: { total: 128 }, compressor: "eigenbasis", seed: 1 } as const;
  const feeds = (ports: Parameters<typeof feedsOf>[0]) => feedsOf(ports, digitFeeds);
  const inside = await compileCalibrated(digitModel, options, feeds);
  const outside = await compileCalibrated(path, options, feeds);
  expect(outside.externalData).toEqual(["weights.bin"]);
  expect(outside.graph.length).toBeLessThan(inside.graph.length - 100_000);
  expect(readdirSync(folder).sort()).toEqual(["model.onnx", "weights.bin"]);

  const compiled = join(folder, "compiled");
  mkdirSync(compiled);
  placeExternalData(path, outside.externalData, compiled);
  expect(existsSync(join(compiled, "weights.bin")) && !lstatSync(join(compiled, "weights.bin")).isSymbolicLink()).toBe(
    true,
  );
  writeFileSync(join(compiled, "gradient.onnx"), outside.graph);
  const expected = await (await runner(inside.graph))(feeds(inside));
  const got = await (await runner(join(compiled, "gradient.onnx")))(feeds(outside));
  expect(got).toEqual(expected);
});
