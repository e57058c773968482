/** Files of quantised rows being written: coarse.bin, whose rows may be divided into heads and tails, and fine.bin. */
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import path from "node:path";
import { encodeHeader } from "../../src/core/header.ts";
import { FILES } from "../../src/core/manifest.ts";
import {
  COARSE_TERMS,
  coarseLayout,
  FINE_TERMS,
  fineLayout,
  interleave,
  quantiseRow,
  strideOf,
} from "../../src/core/plane.ts";
import { bytesOf } from "./index-files.ts";

/** Bytes of rows.f32 that are read at once. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** Rows taken at once: a multiple of four, the rows of a group. */
export const rowsAtOnce = (R: number): number => Math.max(1, Math.floor(CHUNK_BYTES / (16 * R))) * 4;

/** Writes the planes of n rows of R coordinates into `folder`, as they come: the row of the first place first. `head`: its coordinates, 0 where rows are not divided. */
export function openPlanes(folder: string, n: number, R: number, head: number) {
  const stride = strideOf(R);
  const headBytes = head === 0 ? stride : head;
  const tailBytes = stride - headBytes;
  const layout = coarseLayout(n, R, head);
  const coarse = openFile(path.join(folder, FILES.coarse), "coarse", n, R, layout.bytes);
  const fineFile = fineLayout(n, R);
  const fine = openFile(path.join(folder, FILES.fine), "fine", n, R, fineFile.bytes);
  const heads = openArray(coarse, layout.codesAt, headBytes, R);
  const tails = openArray(coarse, layout.tailCodesAt, tailBytes, R);
  const terms = openArray(coarse, layout.termsAt, COARSE_TERMS, R);
  const tailTerms = openArray(coarse, layout.tailTermsAt, head === 0 ? 0 : COARSE_TERMS, R);
  const fineCodes = openArray(fine, fineFile.codesAt, stride, R);
  const fineTerms = openArray(fine, fineFile.termsAt, FINE_TERMS, R);
  const arrays = [terms, tailTerms, tails, fineCodes, fineTerms];
  const codes = new Int8Array(stride);
  let place = 0;
  return {
    /** The next place's row: [R] float64 rotated, which is used up. */
    add(x: Float64Array): void {
      const at = place % terms.rows;
      const row = quantiseRow(x, codes, fineCodes.codes.subarray(at * stride), head);
      const group = (at >> 2) * 4 * headBytes;
      interleave(codes.subarray(0, headBytes), at & 3, heads.codes.subarray(group, group + 4 * headBytes));
      tails.codes.set(codes.subarray(headBytes), at * tailBytes);
      const from = COARSE_TERMS * at;
      terms.view.setFloat32(from, row.scale, true);
      terms.view.setFloat32(from + 4, row.norm, true);
      terms.view.setFloat32(from + 8, head === 0 ? row.residual : row.tailNorm, true);
      terms.view.setInt32(from + 12, row.codeSum, true);
      if (head > 0) {
        tailTerms.view.setFloat32(from, row.tailScale, true);
        tailTerms.view.setFloat32(from + 4, row.norm, true);
        tailTerms.view.setFloat32(from + 8, row.residual, true);
        tailTerms.view.setInt32(from + 12, row.tailSum, true);
      }
      fineTerms.view.setFloat32(FINE_TERMS * at, row.fineScale, true);
      fineTerms.view.setFloat32(FINE_TERMS * at + 4, row.fineResidual, true);
      place++;
      if (at + 1 === terms.rows || place === n) {
        for (const array of arrays) array.flush(at + 1);
        heads.flush(4 * Math.ceil((at + 1) / 4));
      }
    },
    /** Which row lies at each place. */
    setOrder: (order: Uint32Array) => coarse.write(bytesOf(order), layout.orderAt),
    close(): void {
      coarse.close();
      fine.close();
    },
  };
}

/** A file of its whole length, zeros behind the header. */
function openFile(file: string, kind: "coarse" | "fine", n: number, R: number, bytes: number) {
  const descriptor = openSync(file, "w");
  const write = (data: Uint8Array, position: number) => {
    for (let done = 0; done < data.length; )
      done += writeSync(descriptor, data, done, data.length - done, position + done);
  };
  ftruncateSync(descriptor, bytes);
  write(encodeHeader({ kind, n, dimension: R, stride: strideOf(R) }), 0);
  return { write, close: () => closeSync(descriptor) };
}

/** An array in a file, of `size` bytes a row, from `at` on, some rows of which are held until they are flushed. What no row sets is zero. */
function openArray(file: { write(data: Uint8Array, position: number): void }, at: number, size: number, R: number) {
  const rows = rowsAtOnce(R);
  const held = new Uint8Array(rows * size);
  let flushed = 0;
  return {
    rows,
    codes: new Int8Array(held.buffer),
    view: new DataView(held.buffer),
    flush(count: number): void {
      if (size > 0) file.write(held.subarray(0, count * size), at + flushed * size);
      held.fill(0);
      flushed += count;
    },
  };
}
