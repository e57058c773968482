/** The search's kernel on Workers. */
import type { Kernel } from "./core/kernel/kernel.ts";
import { plainKernel } from "./core/kernel/plain.ts";

/** What `openSearcher` needs from Workers. */
export function workerKernel(): Kernel {
  return {
    instantiate: plainKernel,
    sha256() {
      const stream = new crypto.DigestStream("SHA-256");
      const writer = stream.getWriter();
      return {
        update: (bytes) => writer.write(bytes),
        async finish() {
          await writer.close();
          return hex(new Uint8Array(await stream.digest));
        },
      };
    },
    now: () => performance.now(),
  };
}

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
