/** What the module exports: KernelExports in ../kernel.ts. */
export { prepare } from "./prepare";
export { exact, refine } from "./rescore";
export { scan } from "./scan";
export { sweep } from "./sweep";
