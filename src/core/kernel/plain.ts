/** The scan in plain TypeScript: what the compiled kernels must compute, to the last bit. */
import type { KernelExports } from "./kernel.ts";

/** Kernel functions over a memory of their own. */
export function plainKernel(): KernelExports {
  let bytes = new Uint8Array(65536);
  const memory = {
    get buffer() {
      return bytes.buffer;
    },
    grow(pages: number) {
      const larger = new Uint8Array(bytes.length + pages * 65536);
      larger.set(bytes);
      const before = bytes.length / 65536;
      bytes = larger;
      return before;
    },
  };
  const f64 = (at: number, count: number) => new Float64Array(bytes.buffer, at, count);
  const f32 = (at: number, count: number) => new Float32Array(bytes.buffer, at, count);
  const i8 = (at: number, count: number) => new Int8Array(bytes.buffer, at, count);
  const u32 = (at: number, count: number) => new Uint32Array(bytes.buffer, at, count);
  return {
    memory,
    scan(terms, codes, stride, first, count, query, residualFactor, normFactor, high, low, filter, outRows, outPairs) {
      const wide = new Int16Array(bytes.buffer, query + 2 * stride, stride);
      const rows = u32(outRows, count);
      const pairs = f64(outPairs, 2 * count);
      let written = 0;
      for (let row = first; row < first + count; row++) {
        if (filter !== 0 && ((bytes[filter + (row >> 3)] >> (row & 7)) & 1) === 0) continue;
        const [scale, norm, residual] = f32(terms + 16 * row, 3);
        const code = i8(codes + stride * row, stride);
        let sum = 0;
        for (let j = 0; j < stride; j++) sum += code[j] * wide[j];
        const dot = scale * sum;
        const width = residualFactor * residual + normFactor * norm;
        const above = dot + width;
        const below = dot - width;
        if (!((above > 0 && above >= high) || (below < 0 && below <= low))) continue;
        rows[written] = row;
        pairs[2 * written] = dot;
        pairs[2 * written + 1] = width;
        written++;
      }
      return written;
    },
    refine(coarseTerms, coarseCodes, fineTerms, fineCodes, stride, rows, count, query, out) {
      const list = u32(rows, count);
      const values = f64(query, stride);
      const dots = f64(out, count);
      list.forEach((row, index) => {
        const scale = f32(coarseTerms + 16 * row, 1)[0];
        const fineScale = f32(fineTerms + 8 * row, 1)[0];
        const coarse = i8(coarseCodes + stride * row, stride);
        const fine = i8(fineCodes + stride * row, stride);
        let sum = 0;
        let fineSum = 0;
        for (let j = 0; j < stride; j++) {
          sum += coarse[j] * values[j];
          fineSum += fine[j] * values[j];
        }
        dots[index] = scale * sum + fineScale * fineSum;
      });
    },
    exact(data, dimension, rows, count, query, out) {
      const list = u32(rows, count);
      const values = f64(query, dimension);
      const dots = f64(out, count);
      list.forEach((row, index) => {
        const entries = f32(data + 4 * dimension * row, dimension);
        let sum = 0;
        for (let j = 0; j < dimension; j++) sum += entries[j] * values[j];
        dots[index] = sum;
      });
    },
  };
}
