import { describe, expect, test } from "vitest";
import { workerKernel } from "../../src/kernel.ts";

describe("the kernel in workerd", () => {
  test("compiles and has its functions", () => {
    const { memory, scan, refine, exact } = workerKernel().instantiate();
    expect(memory.buffer.byteLength % 65536).toBe(0);
    expect([scan, refine, exact].map((run) => typeof run)).toEqual(["function", "function", "function"]);
  });

  test("has memory of its own in every instance", () => {
    const kernel = workerKernel();
    expect(kernel.instantiate().memory).not.toBe(kernel.instantiate().memory);
  });

  test("digests a stream of bytes as FIPS 180-4 does", async () => {
    const sha256 = workerKernel().sha256();
    await sha256.update(new TextEncoder().encode("a"));
    await sha256.update(new TextEncoder().encode("bc"));
    expect(await sha256.finish()).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });
});
