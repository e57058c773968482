/** Grid dropout: all entries where a random set of the weight's rows crosses a random set of its columns. */
import { sampleWithoutReplacement } from "../../../src/core/mask.ts";
import { random } from "../../../src/core/random.ts";
import { type Compressor, keeping } from "./compressor.ts";
import { gridExtents, matrixView } from "./matrix-view.ts";

export const grid: Compressor = {
  name: "grid dropout",
  needs: "nothing",
  projection: ({ layer, r, seed }) => {
    const view = matrixView(layer);
    const [high, wide] = gridExtents(view, r);
    const { below } = random(seed, `grid/${layer.name}`);
    const rows = new Set(sampleWithoutReplacement(view.rows, high, below));
    const columns = new Set(sampleWithoutReplacement(view.columns, wide, below));
    const kept: number[] = [];
    view.cell.forEach((cell, position) => {
      if (rows.has(Math.floor(cell / view.columns)) && columns.has(cell % view.columns)) kept.push(position);
    });
    return keeping(kept, layer.d);
  },
};
