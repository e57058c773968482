/** From an entry of the configuration to a column. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync, globSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import type { ColumnFile } from "../command/config.ts";
import type { Column } from "./column.ts";
import { openIdx } from "./idx.ts";
import { openJsonLines } from "./json-lines.ts";
import { openNpy } from "./npy.ts";
import { openNpz } from "./npz.ts";
import { openParquet } from "./parquet.ts";
import { openSafetensors } from "./safetensors.ts";

type Format = NonNullable<ColumnFile["format"]>;

const BY_ENDING: [RegExp, Format][] = [
  [/\.npy$/, "npy"],
  [/\.npz$/, "npz"],
  [/\.safetensors$/, "safetensors"],
  [/\.parquet$/, "parquet"],
  [/\.(jsonl|ndjson)$/, "jsonl"],
  [/(-ubyte|\.idx)$/, "idx"],
];

/** The files an entry names, absolute, in order. Throws an Error when a pattern matches none. */
export function filesOf(entry: ColumnFile, folder: string): string[] {
  return [entry.file].flat().flatMap((file) => {
    if (!/[*?[{]/.test(file)) return [resolve(folder, file)];
    const found = globSync(file, { cwd: folder }).sort();
    if (found.length === 0) throw new Error(`no such dataset file: nothing in ${folder} matches ${file}`);
    return found.map((path) => resolve(folder, path));
  });
}

function formatOf(entry: ColumnFile, path: string): Format {
  const plain = path.replace(/\.gz$/, "");
  const format = entry.format ?? BY_ENDING.find(([ending]) => ending.test(plain))?.[1];
  if (!format)
    throw new Error(
      `${path}: expected a name that tells the format (.npy .npz .safetensors .parquet .jsonl -ubyte), or \`format\` beside it`,
    );
  return format;
}

/** The file itself, or its contents unpacked once into the scratch folder. */
async function unpacked(path: string, scratch: string): Promise<string> {
  if (!path.endsWith(".gz")) return path;
  if (!existsSync(path)) throw new Error(`no such dataset file: ${path}`);
  const { size, mtimeMs } = statSync(path);
  const target = join(
    scratch,
    createHash("sha256")
      .update(JSON.stringify([path, size, mtimeMs]))
      .digest("hex")
      .slice(0, 16),
  );
  if (!existsSync(target)) {
    mkdirSync(scratch, { recursive: true });
    await pipeline(createReadStream(path), createGunzip(), createWriteStream(`${target}.part`)).catch(
      (error: Error) => {
        throw new Error(`${path}: expected gzip: ${error.message}; fetch the file again`);
      },
    );
    renameSync(`${target}.part`, target);
  }
  return target;
}

/** Opens a column. `folder`: what relative paths start from; `scratch`: where compressed files are unpacked. */
export async function openColumn(entry: ColumnFile, folder: string, scratch: string): Promise<Column> {
  const paths = filesOf(entry, folder);
  const [first = ""] = paths;
  const format = formatOf(entry, first);
  const column = () => {
    if (entry.column === undefined)
      throw new Error(`${first}: a ${format} file needs \`column\`, the name of the field to read`);
    return entry.column;
  };
  if (format === "parquet") return openParquet(paths, column());
  if (paths.length > 1)
    throw new Error(`${paths.join(", ")}: several files in order are read for Parquet only; join them, or name one`);
  const path = await unpacked(first, scratch);
  switch (format) {
    case "idx":
      return openIdx(path);
    case "npy":
      return openNpy(path);
    case "npz":
      return openNpz(path, entry.column, scratch);
    case "safetensors":
      return openSafetensors(path, entry.column);
    case "jsonl":
      return openJsonLines(path, column());
    default:
      return format satisfies never;
  }
}
