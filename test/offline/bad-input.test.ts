import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import onnxProto from "onnx-proto";
import { describe, expect, test } from "vitest";
import { configFile, influence, smallConfig } from "./demonstration.ts";

const { onnx } = onnxProto;

/** Runs a step on a changed configuration: it must fail with one line, and leave nothing that counts as finished. */
function refuses(config: unknown, step: "compile" | "collect" | "index" = "index"): string {
  const { path, run } = configFile(config);
  const { status, stderr } = influence(step, path, "--out", run);
  expect(status).toBe(1);
  expect(existsSync(join(run, "index", "manifest.json"))).toBe(false);
  const lines = stderr
    .trim()
    .split("\n")
    .filter((line) => line.startsWith("influence: "));
  expect(lines.length, stderr).toBe(1);
  expect(stderr).not.toMatch(/^\s+at /m);
  return lines[0] ?? "";
}

/** A model x [N, 4] → Gemm → `operator` → logits [N, 4]. */
function modelWith(operator: string, path: string): void {
  const tensor = (name: string, shape: (number | string)[]) => ({
    name,
    type: {
      tensorType: {
        elemType: 1,
        shape: {
          dim: shape.map((extent) => (typeof extent === "number" ? { dimValue: extent } : { dimParam: extent })),
        },
      },
    },
  });
  const model = onnx.ModelProto.create({
    irVersion: 8,
    opsetImport: [{ domain: "", version: 18 }],
    graph: {
      name: "g",
      input: [tensor("image", ["batch", 784])],
      output: [tensor("logits", ["batch", 10])],
      initializer: [{ name: "fc.weight", dataType: 1, dims: [784, 10], rawData: new Uint8Array(784 * 10 * 4) }],
      node: [
        { name: "multiply", opType: "MatMul", input: ["image", "fc.weight"], output: ["hidden"] },
        { name: "odd_one", opType: operator, input: ["hidden"], output: ["logits"] },
      ],
    },
  });
  writeFileSync(path, onnx.ModelProto.encode(model).finish());
}

describe("bad input: one clear line naming what and where, and nothing half-written", () => {
  test("no such configuration, and one with an unknown field", () => {
    expect(influence("build", "nowhere.yaml").stderr).toMatch(/^influence: no such configuration: nowhere\.yaml/);
    expect(refuses({ ...smallConfig(), rr: 3 })).toMatch(/influence\.yaml: the file: Unrecognized key: "rr"/);
  });

  test("no such model", () => {
    expect(refuses({ ...smallConfig(), model: "missing.onnx" })).toMatch(/no such model: .*missing\.onnx/);
  });

  test("a file that is not ONNX", () => {
    expect(refuses({ ...smallConfig(), model: join(process.cwd(), "package.json") })).toMatch(/package\.json/);
  });

  test("an operator without a rule: names the node and the operator", () => {
    const { folder } = configFile({});
    const model = join(folder, "odd.onnx");
    modelWith("Det", model);
    const config = smallConfig();
    const train = { ...config.train, inputs: { image: { ...config.train.inputs.image, shape: [784] } } };
    const line = refuses({ ...config, model, train, queries: undefined }, "compile");
    expect(line).toContain("odd_one");
    expect(line).toContain("Det");
  });

  test("dataset and model shapes that disagree: both shapes", () => {
    const config = smallConfig();
    config.train.inputs.image.shape = [28, 28, 1];
    expect(refuses(config)).toMatch(
      /inputs\.image: the model expects extents \[1, 28, 28\], the dataset has \[28, 28, 1\]/,
    );
  });

  test("a label out of range: its example", () => {
    const config = smallConfig();
    const { folder } = configFile({});
    const path = join(folder, "labels-ubyte");
    const labels = readFileSync(config.train.target.file);
    labels[8 + 17] = 12;
    writeFileSync(path, labels);
    const { flipped: _, ...train } = config.train;
    expect(refuses({ ...config, train: { ...train, target: { file: path } } })).toMatch(
      /example train-00017: expected a label of 0 … 9, .* got 12/,
    );
  });

  test("r larger than d", () => {
    expect(refuses({ ...smallConfig(), r: { total: 10_000_000 } })).toMatch(
      /r: expected at most d = 52138.*got 10000000/,
    );
  });

  test("an example whose gradient is not finite: its id", () => {
    const config = smallConfig();
    config.train.inputs.image.divideBy = 1e-300;
    expect(refuses(config)).toMatch(/example train-\d{5}: its (gradient|loss) is not finite/);
  });

  test("a shard cut short or altered after it was written: the file, what was expected and what was found", () => {
    const { path, run } = configFile(smallConfig());
    expect(influence("collect", path, "--out", run).status).toBe(0);
    const shard = join(run, "collect", "train-00001.shard");
    const whole = readFileSync(shard);

    const altered = Buffer.from(whole);
    altered[5000]! ^= 1;
    writeFileSync(shard, altered);
    const changed = influence("index", path, "--out", run);
    expect(changed.status).toBe(1);
    expect(changed.stderr).toMatch(/train-00001\.shard: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}/);

    truncateSync(shard, 1000);
    const short = influence("index", path, "--out", run);
    expect(short.status).toBe(1);
    expect(short.stderr).toMatch(/train-00001\.shard: expected \d+ bytes, got 1000/);
    expect(existsSync(join(run, "index"))).toBe(false);

    writeFileSync(shard, whole);
    expect(influence("index", path, "--out", run).status).toBe(0);
    rmSync(run, { recursive: true });
  });

  test("gradients of other settings are not thrown away by a changed setting: what changed, and how to go on", () => {
    const { path, run } = configFile(smallConfig(100));
    expect(influence("collect", path, "--out", run).status).toBe(0);
    writeFileSync(path, JSON.stringify({ ...smallConfig(100), batch: 20 }));
    const refused = influence("collect", path, "--out", run);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/other settings \(batch: 50 → 20\); pass --replace/);
    expect(influence("collect", path, "--out", run, "--replace").status).toBe(0);
  });

  test("a dataset that changed between runs, and an empty one", () => {
    const config = smallConfig(100);
    const made = configFile(config);
    const labels = readFileSync(config.train.target.file);
    const file = join(made.folder, "labels-ubyte");
    writeFileSync(file, labels);
    const { flipped: _, ...train } = config.train;
    writeFileSync(made.path, JSON.stringify({ ...config, train: { ...train, target: { file } } }));
    expect(influence("collect", made.path, "--out", made.run).status).toBe(0);
    labels[8 + 3] = (labels[8 + 3]! + 1) % 10;
    writeFileSync(file, labels);
    const changed = influence("collect", made.path, "--out", made.run);
    expect(changed.status).toBe(1);
    expect(changed.stderr).toMatch(/collect was made with other settings \(train: [0-9a-f]{12} → [0-9a-f]{12}/);

    labels.writeUInt32BE(0, 4);
    writeFileSync(file, labels);
    const images = readFileSync(config.train.inputs.image.file);
    images.writeUInt32BE(0, 4);
    writeFileSync(join(made.folder, "images-ubyte"), images);
    const inputs = { image: { ...train.inputs.image, file: join(made.folder, "images-ubyte") } };
    expect(refuses({ ...config, train: { ...train, inputs, target: { file } } })).toMatch(
      /images-ubyte: the dataset is empty; expected at least one example/,
    );
  });

  test.each([783, 785])(
    "an example of %d values in the middle, where the model takes 784: its input, file and row",
    (length) => {
      const { folder } = configFile({});
      const file = join(folder, "signals.jsonl");
      const line = (values: number) => JSON.stringify({ pixels: new Array(values).fill(0.5), label: 1 });
      writeFileSync(file, [line(784), line(784), line(length), line(784)].join("\n"));
      const model = join(folder, "linear.onnx");
      modelWith("Relu", model);
      const train = { inputs: { image: { file, column: "pixels" } }, target: { file, column: "label" } };
      expect(refuses({ name: "lengths", model, r: { total: 20 }, train })).toMatch(
        new RegExp(
          `image: .*signals\\.jsonl: pixels: example 2: expected 784 values as the model takes, got ${length}; mend`,
        ),
      );
    },
  );

  test("an id that occurs twice: both rows", () => {
    const config = smallConfig(100);
    const { folder } = configFile({});
    const file = join(folder, "ids.jsonl");
    const ids = Array.from({ length: 60_000 }, (_, row) => JSON.stringify({ id: row === 71 ? "e17" : `e${row}` }));
    writeFileSync(file, ids.join("\n"));
    const train = { ...config.train, ids: { file, column: "id" } };
    expect(refuses({ ...config, train })).toMatch(/ids\.jsonl: id: expected unique ids, got "e17" in rows 17 and 71/);
  });

  test("a full disk: what is finished is kept, and going on makes the same bytes", () => {
    const { path, run } = configFile(smallConfig(500));
    expect(influence("collect", path, "--out", run, "--shard", "1/2").status).toBe(0);
    // Every write to /dev/full fails as one on a full disk does.
    const shard = join(run, "collect.part", "train-00001.shard.part");
    symlinkSync("/dev/full", shard);
    const full = influence("index", path, "--out", run);
    expect(full.status).toBe(1);
    expect(full.stderr.match(/^influence: .*$/m)?.[0]).toMatch(
      /^influence: the disk is full; make room and run the same command again/,
    );
    expect(existsSync(join(run, "collect"))).toBe(false);
    expect(readdirSync(join(run, "collect.part")).filter((file) => file.endsWith(".shard"))).not.toEqual([]);
    rmSync(shard);
    expect(influence("index", path, "--out", run).status).toBe(0);
    const whole = configFile(smallConfig(500));
    expect(influence("index", whole.path, "--out", whole.run).status).toBe(0);
    const manifest = (folder: string) => readFileSync(join(folder, "index", "manifest.json"), "utf8");
    expect(manifest(run)).toBe(manifest(whole.run));
  });
});
