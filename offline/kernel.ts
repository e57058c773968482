/** The search's kernel on Node. */
import { createHash } from "node:crypto";
import type { Kernel } from "../src/core/kernel/kernel.ts";
import { plainKernel } from "../src/core/kernel/plain.ts";

/** What `openSearcher` needs from Node. */
export function loadKernel(): Kernel {
  return {
    instantiate: plainKernel,
    sha256() {
      const hash = createHash("sha256");
      return {
        update: (bytes) => {
          hash.update(bytes);
        },
        finish: () => hash.digest("hex"),
      };
    },
    now: () => performance.now(),
  };
}
