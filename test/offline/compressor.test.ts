/** Which compressor a configuration asks for, and what of imported gradients can be asked. */
import { expect, test } from "vitest";
import { readConfig } from "../../offline/command/config.ts";
import { configFile, smallConfig } from "./demonstration.ts";

const imported = { name: "mine", train: { gradients: { file: "train.npy" } }, r: { total: 8 } };

test("a model's gradients are kept in their eigenbasis unless it says otherwise", () => {
  expect(readConfig(configFile(smallConfig()).path).compressor).toBe("eigenbasis");
  expect(readConfig(configFile({ ...smallConfig(), compressor: "grid" }).path).compressor).toBe("grid");
});

test("imported gradients are kept uniformly; what would need the model's inputs and cotangents is refused by name", () => {
  expect(readConfig(configFile(imported).path).compressor).toBe("uniform");
  expect(readConfig(configFile({ ...imported, compressor: "uniform" }).path).compressor).toBe("uniform");
  for (const compressor of ["eigenbasis", "importance", "sjlt", "grid"]) {
    expect(() => readConfig(configFile({ ...imported, compressor }).path)).toThrow(
      `compressor: expected uniform for imported gradients, whose inputs and cotangents are not known, got ${compressor}`,
    );
  }
});
