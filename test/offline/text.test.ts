import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { readMetadata } from "../../offline/serve/query.ts";
import { FILES } from "../../src/core/manifest.ts";
import { configFile, influence, smallConfig } from "./demonstration.ts";

const texts = resolve("fixtures/datasets/rows.jsonl");
const column = (name: string) => ({ file: texts, column: name });

/** A small GPT-2 over the 20 texts, every one also asked about. */
const split = (idPrefix: string) => ({
  inputs: {
    input_ids: { ...column("text"), tokenizer: resolve("fixtures/datasets/tokenizer.json"), maxLength: 12 },
    attention_mask: { maskOf: "input_ids" },
  },
  target: { labelsOf: "input_ids" },
  columns: { text: column("text") },
  idPrefix,
});
const config = {
  name: "text",
  model: resolve("fixtures/zoo/gpt2.onnx"),
  loss: "next-token",
  r: { perLayer: 16 },
  train: split("line-"),
  queries: split("asked-"),
  batch: 8,
  shard: 16,
};

describe("a language model over lines of text", () => {
  test("builds from text and a tokenizer, and carries the text to the index", () => {
    const { path, run } = configFile(config);
    const built = influence("index", path, "--out", run);
    expect(built.status, built.stderr).toBe(0);
    const { ids, columns } = readMetadata(join(run, "index"), FILES.examples);
    expect(ids[3]).toBe("line-00003");
    expect(columns.text?.[3]).toBe(JSON.parse(readFileSync(texts, "utf8").split("\n")[3]!).text);
    const answer = JSON.parse(influence("query", join(run, "index"), "asked-00006", "-k", "20", "--json").stdout);
    // More weight on an example lowers its own loss: among the helpful is the line itself.
    expect(answer.helpful.map((entry: { id: string }) => entry.id)).toContain("line-00006");
  });
});

describe("an example whose gradient is not finite", () => {
  /** Digits whose eighteenth is scaled out of range: its pixels become infinite. */
  function withOneInfinite() {
    const { train, ...rest } = smallConfig(200);
    const made = configFile({});
    const pixels = new Float32Array(200 * 784).fill(0.5);
    pixels[17 * 784] = Number.POSITIVE_INFINITY;
    const head = Buffer.alloc(128, " ");
    head.write("\u0093NUMPY\u0001\u0000", 0, "latin1");
    head.writeUInt16LE(118, 8);
    head.write("{'descr': '<f4', 'fortran_order': False, 'shape': (200, 1, 28, 28), }", 10, "latin1");
    head.write("\n", 127);
    writeFileSync(join(made.folder, "pixels.npy"), Buffer.concat([head, Buffer.from(pixels.buffer)]));
    const labels = { file: join(made.folder, "labels.jsonl"), column: "label" };
    writeFileSync(labels.file, Array.from({ length: 200 }, (_, row) => JSON.stringify({ label: row % 10 })).join("\n"));
    const { flipped: _, ...own } = train;
    const changed = {
      ...rest,
      train: { ...own, inputs: { image: { file: join(made.folder, "pixels.npy") } }, target: labels },
    };
    writeFileSync(made.path, JSON.stringify(changed));
    return made;
  }

  test("stops the build by its id, or is left out and listed when that is asked for", () => {
    const { path, run } = withOneInfinite();
    const stopped = influence("index", path, "--out", run);
    expect(stopped.status).toBe(1);
    expect(stopped.stderr).toMatch(/example train-00017: its (gradient|loss) is not finite; .* --on-nan skip/);

    const skipped = influence("index", path, "--out", run, "--on-nan", "skip", "--replace");
    expect(skipped.status, skipped.stderr).toBe(0);
    expect(skipped.stderr).toMatch(/left out, not finite: train-00017/);
    const { ids } = readMetadata(join(run, "index"), FILES.examples);
    expect(ids.length).toBe(199);
    expect(ids).not.toContain("train-00017");
  });
});
