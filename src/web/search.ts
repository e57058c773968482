/**
 * The search in a browser: the same certified scan as the Worker's, over an index's files wherever HTTP serves them. A page or any
 * client opens an index once, and then asks without a request.
 *
 *   openSearcher(manifest, httpSource("/files/"), await browserKernel("/kernel/"), 64e6)   src/core/search.ts
 */
import type { Kernel } from "../core/kernel/kernel.ts";
import { kernelExports } from "../core/kernel/web-assembly.ts";
import { CorruptIndexError, type IndexSource, type Part } from "../core/source.ts";

/** The compiled kernels, the faster first. */
const KERNELS = ["scan-relaxed.wasm", "scan-simd.wasm"];

/**
 * What `openSearcher` needs from a browser: the relaxed kernel where it can compile it, else the standard one, fetched from below
 * `base`. Throws an Error where neither is there or compiles.
 */
export async function browserKernel(base: string): Promise<Kernel> {
  const module = await firstValid(base);
  return {
    instantiate: () => kernelExports(new WebAssembly.Instance(module)),
    now: () => performance.now(),
  };
}

async function firstValid(base: string): Promise<WebAssembly.Module> {
  for (const file of KERNELS) {
    const response = await fetch(new URL(file, new URL(base, location.href)));
    if (!response.ok)
      throw new Error(`${file}: expected the kernel below ${base}, got ${response.status}; serve it there`);
    const bytes = await response.arrayBuffer();
    if (WebAssembly.validate(bytes)) return await WebAssembly.compile(bytes);
  }
  throw new Error("kernel: expected WebAssembly with SIMD, got a browser without; use a newer one");
}

/** An index's files below `base`, whole or by range; a server that answers a range with the whole file is refused. */
export function httpSource(base: string): IndexSource {
  const ask = async (file: string, part?: Part): Promise<Response> => {
    const headers = part && { Range: `bytes=${part.offset}-${part.offset + part.length - 1}` };
    const response = await fetch(new URL(file, new URL(base, location.href)), headers ? { headers } : {});
    const expected = part === undefined ? 200 : 206;
    if (response.status !== expected)
      throw new CorruptIndexError(file, `an answer of ${expected}`, `${response.status}`);
    return response;
  };
  return {
    async stream(file, part) {
      return chunksOf((await ask(file, part)).body);
    },
    async range(file, offset, length) {
      const bytes = new Uint8Array(await (await ask(file, { offset, length })).arrayBuffer());
      if (bytes.length !== length) throw new CorruptIndexError(file, `${length} bytes at ${offset}`, `${bytes.length}`);
      return bytes;
    },
  };
}

/** Not every browser iterates over a stream by itself. */
async function* chunksOf(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  const reader = body?.getReader();
  while (reader !== undefined) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
