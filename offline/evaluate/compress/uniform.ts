/** Dropout as compression: r coordinates uniformly at random, unscaled (arXiv 2509.15651, §3.1, eq. 3). */
import { uniformMask } from "../../../src/core/mask.ts";
import { type Compressor, keeping } from "./compressor.ts";

export const uniform: Compressor = {
  name: "dropout",
  needs: "nothing",
  projection: ({ layer, r, seed }) => keeping(uniformMask([layer], [r], seed)[0]?.kept ?? [], layer.d),
};
