/** NumPy's .npz: a zip of .npy files. The wanted array is unpacked once into a scratch folder, then read in place. */
import { createHash } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import yauzl from "yauzl";
import type { NumberColumn } from "./column.ts";
import { openNpy } from "./npy.ts";

const openZip = promisify<string, yauzl.Options, yauzl.ZipFile>(yauzl.open);

export async function openNpz(path: string, array: string | undefined, scratch: string): Promise<NumberColumn> {
  let zip: yauzl.ZipFile;
  try {
    zip = await openZip(path, { lazyEntries: true });
  } catch (error) {
    throw new Error(
      existsSync(path) ? `${path}: expected an .npz (zip) file: ${String(error)}` : `no such dataset file: ${path}`,
    );
  }
  const { size, mtimeMs } = statSync(path);
  const names: string[] = [];
  try {
    const entry = await new Promise<yauzl.Entry | null>((settle, fail) => {
      zip.on("entry", (candidate: yauzl.Entry) => {
        const name = candidate.fileName.replace(/\.npy$/, "");
        names.push(name);
        if (name === array) settle(candidate);
        else zip.readEntry();
      });
      zip.on("end", () => settle(null));
      zip.on("error", fail);
      zip.readEntry();
    });
    if (!entry) {
      throw new Error(`${path}: expected an array named ${array ?? "(set `array`)"}, the file has ${names.join(", ")}`);
    }
    const digest = createHash("sha256")
      .update(JSON.stringify([path, array, size, mtimeMs]))
      .digest("hex")
      .slice(0, 16);
    const unpacked = join(scratch, `${digest}.npy`);
    if (!existsSync(unpacked)) {
      mkdirSync(scratch, { recursive: true });
      const stream = await promisify(
        zip.openReadStream.bind(zip) as (
          entry: yauzl.Entry,
          callback: (error: Error | null, stream: NodeJS.ReadableStream) => void,
        ) => void,
      )(entry);
      await pipeline(stream, createWriteStream(`${unpacked}.part`));
      renameSync(`${unpacked}.part`, unpacked);
    }
    return { ...openNpy(unpacked, array), name: `${path}: ${array}` };
  } finally {
    zip.close();
  }
}
