/** What the module exports: KernelExports in ../kernel.ts. */
export { answer } from "./answer";
export { checksumBegin, checksumEnd, checksumUpdate } from "./checksum";
export { prepare } from "./prepare";
export { exact, refine } from "./rescore";
export { scan } from "./scan";
export { sweep } from "./sweep";
