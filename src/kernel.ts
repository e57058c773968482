/** The search's kernel on Workers. */
import type { Kernel } from "./core/kernel/kernel.ts";
import relaxed from "./core/kernel/scan-relaxed.wasm";
import { kernelExports } from "./core/kernel/web-assembly.ts";

/** What `openSearcher` needs from Workers. workerd has relaxed SIMD, so the standard kernel is not shipped. */
export function workerKernel(): Kernel {
  return {
    instantiate: () => kernelExports(new WebAssembly.Instance(relaxed)),
    now: () => performance.now(),
  };
}
