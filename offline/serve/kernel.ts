/** The search's kernel on Node. */
import { readFileSync } from "node:fs";
import type { Kernel } from "../../src/core/kernel/kernel.ts";
import { kernelExports } from "../../src/core/kernel/web-assembly.ts";
import { assembly, type CompiledModule } from "../index/web-assembly.ts";

const FOLDER = new URL("../../src/core/kernel/", import.meta.url);

/** The compiled kernels, the faster first. */
export const KERNEL_FILES = ["scan-relaxed.wasm", "scan-simd.wasm"] as const;
export type KernelFile = (typeof KERNEL_FILES)[number];

/** What `openSearcher` needs from Node: the relaxed kernel where this Node can compile it, the standard one otherwise, or the one named. */
export function loadKernel(file?: KernelFile): Kernel {
  const module = file === undefined ? firstValid() : new assembly.Module(readFileSync(new URL(file, FOLDER)));
  return {
    instantiate: () => kernelExports(new assembly.Instance(module)),
    now: () => performance.now(),
  };
}

function firstValid(): CompiledModule {
  for (const file of KERNEL_FILES) {
    const bytes = readFileSync(new URL(file, FOLDER));
    if (assembly.validate(bytes)) return new assembly.Module(bytes);
  }
  throw new Error(`kernel: expected WebAssembly with SIMD, got Node ${process.version} without; use Node 24`);
}
