/**
 * Training: an epoch of the MNIST CNN on two threads, and its ratio to PyTorch's where the environment names a Python that has it
 * (INFLUENCE_PYTHON). Both take turns, so that other load on the machine meets them alike.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "../evaluate/statistics.ts";
import { digitExamples, readDigits } from "../evaluate/tasks/digits.ts";
import { ADAMW } from "../train/optimiser.ts";
import { openTrainer } from "../train/trainer.ts";
import { atMost, type Figure } from "./figure.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
const [THREADS, STEPS, ROUNDS, BATCH, EXAMPLES] = [2, 60, 7, 100, 60_000];
/** The product's bound: an epoch within twice PyTorch's time. */
const LIMIT = 2;

function openPyTorch(python: string) {
  const script = fixture("training/epoch.py");
  const child: ChildProcessWithoutNullStreams = spawn(python, [script, String(THREADS), String(STEPS)]);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    seconds: async () => {
      child.stdin.write("\n");
      const { value, done } = await lines.next();
      if (done) throw new Error(`${python}: expected the seconds of ${STEPS} steps, got none; does it have torch?`);
      return Number(value);
    },
    close: () => child.stdin.end(),
  };
}

async function openOurs() {
  const digits = readDigits("train");
  const rows = Array.from({ length: STEPS * BATCH }, (_, row) => row);
  const examples = digitExamples(digits, rows, digits.labels);
  const trainer = await openTrainer(fixture("mnist-cnn/model.onnx"), {
    loss: "cross-entropy",
    optimiser: ADAMW,
    threads: THREADS,
  });
  const state = trainer.start();
  return {
    seconds: async () => {
      const started = performance.now();
      for (let step = 0; step < STEPS; step++) {
        await trainer.step(state, await examples.feeds(rows.slice(step * BATCH, (step + 1) * BATCH)), 1e-3);
      }
      return (performance.now() - started) / 1000;
    },
    close: () => trainer.release(),
  };
}

export async function measure(): Promise<Figure[]> {
  const python = process.env.INFLUENCE_PYTHON;
  const ours = await openOurs();
  const theirs = python ? openPyTorch(python) : null;
  const [own, other]: [number[], number[]] = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    const seconds = [await ours.seconds(), await theirs?.seconds()];
    // The first round warms up.
    if (round === 0) continue;
    own.push(seconds[0] ?? 0);
    if (seconds[1] !== undefined) other.push(seconds[1]);
  }
  await ours.close();
  theirs?.close();
  const epoch = (seconds: number) => (seconds * EXAMPLES) / (STEPS * BATCH);
  const figures = [atMost(`train: an epoch of the MNIST CNN, ${THREADS} threads`, epoch(median(own)), "s")];
  if (theirs) {
    const ratios = own.map((seconds, round) => seconds / (other[round] ?? 1));
    figures.push(
      atMost("train: PyTorch's epoch, the same threads", epoch(median(other)), "s"),
      atMost("train: ratio to PyTorch's epoch, median of rounds", median(ratios), "×", LIMIT),
    );
  }
  return figures;
}
