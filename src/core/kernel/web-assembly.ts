/** The part of the WebAssembly interface that this code needs; Node, Workers and browsers all have it. */
import type { KernelExports } from "./kernel.ts";

const NAMES = [
  "memory",
  "prepare",
  "sweep",
  "scan",
  "refine",
  "exact",
  "answer",
  "checksumBegin",
  "checksumUpdate",
  "checksumEnd",
];

/** An instance's exports as the host sees them: nothing is known of them. */
interface Instance {
  readonly exports: object;
}

/**
 * The kernel's functions, of an instance of scan-relaxed.wasm or scan-simd.wasm. Throws TypeError if the module is another.
 */
export function kernelExports(instance: Instance): KernelExports {
  const { exports } = instance;
  if (!isKernel(exports)) {
    throw new TypeError(
      `kernel: expected exports ${NAMES.join(", ")}, got ${Object.keys(exports).join(", ")}; run npm run kernel`,
    );
  }
  return exports;
}

function isKernel(exports: object): exports is KernelExports {
  return NAMES.every((name) => name in exports);
}
