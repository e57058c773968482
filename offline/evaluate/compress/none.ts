/** No compression: all of a layer's coordinates. */
import type { Compressor } from "./compressor.ts";

export const none: Compressor = {
  name: "none",
  needs: "nothing",
  projection: ({ layer }) => ({ r: layer.d, apply: (values, rows) => values.slice(0, rows * layer.d) }),
};
