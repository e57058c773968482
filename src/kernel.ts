/** The search's kernel on Workers. */
import type { Kernel } from "./core/kernel/kernel.ts";
import relaxed from "./core/kernel/scan-relaxed.wasm";
import { kernelExports } from "./core/kernel/web-assembly.ts";

/** What `openSearcher` needs from Workers. workerd has relaxed SIMD, so the standard kernel is not shipped. */
export function workerKernel(): Kernel {
  return {
    instantiate: () => kernelExports(new WebAssembly.Instance(relaxed)),
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
