/** What is known of each example beside its vector, kept on disk while an index is built: memory does not grow with the rows. */
import { closeSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import type { RowBlock } from "../gradients/shard.ts";

/** Examples that are held at once. */
const PART = 4096;

/** Some examples in order, valid until the next are asked for. */
export interface MeasuredPart {
  /** Rows in the dataset. */
  rows: Uint32Array;
  /** NaN: not known. */
  loss: Float32Array;
  /** −1: none. */
  prediction: Int32Array;
  /** NaN: not computed. */
  selfInfluence: Float64Array;
}

/** A file of what was measured, an entry a row of the index. */
export interface Measures {
  n: number;
  /** True when every loss is finite, and when any example has a prediction. */
  lossKnown: boolean;
  predicted: boolean;
  /** Adds row `at` of a block. */
  add(block: RowBlock, at: number, selfInfluence: number): void;
  parts(): Generator<MeasuredPart>;
  remove(): void;
}

/** The arrays of a part of `length` examples, one after another in `buffer`. */
function partIn(buffer: ArrayBuffer, length: number): MeasuredPart {
  return {
    selfInfluence: new Float64Array(buffer, 0, length),
    rows: new Uint32Array(buffer, 8 * PART, length),
    loss: new Float32Array(buffer, 12 * PART, length),
    prediction: new Int32Array(buffer, 16 * PART, length),
  };
}
const PART_BYTES = 20 * PART;

export function openMeasures(path: string): Measures {
  const descriptor = openSync(path, "w+");
  const buffer = new ArrayBuffer(PART_BYTES);
  const part = partIn(buffer, PART);
  const flush = (index: number) => {
    for (let done = 0; done < PART_BYTES; )
      done += writeSync(descriptor, new Uint8Array(buffer), done, PART_BYTES - done, index * PART_BYTES + done);
  };
  const measures: Measures = {
    n: 0,
    lossKnown: true,
    predicted: false,
    add: ({ index, loss, prediction }, at, selfInfluence) => {
      const place = measures.n % PART;
      part.rows[place] = index[at]!;
      part.loss[place] = loss[at]!;
      part.prediction[place] = prediction[at]!;
      part.selfInfluence[place] = selfInfluence;
      measures.lossKnown &&= Number.isFinite(loss[at]);
      measures.predicted ||= prediction[at]! >= 0;
      measures.n++;
      if (measures.n % PART === 0) flush(measures.n / PART - 1);
    },
    *parts() {
      if (measures.n % PART > 0) flush(Math.floor(measures.n / PART));
      const read = new ArrayBuffer(PART_BYTES);
      for (let first = 0; first < measures.n; first += PART) {
        const got = readSync(descriptor, new Uint8Array(read), 0, PART_BYTES, (first / PART) * PART_BYTES);
        if (got !== PART_BYTES) throw new Error(`${path}: expected ${PART_BYTES} bytes at row ${first}, got ${got}`);
        yield partIn(read, Math.min(PART, measures.n - first));
      }
    },
    remove: () => {
      closeSync(descriptor);
      unlinkSync(path);
    },
  };
  return measures;
}
