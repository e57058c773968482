/** Query from the command line: the same search as the edge, over an index's folder. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Unpackr } from "msgpackr";
import { FILES, type Manifest, type Metadata, metadataSchema } from "../../src/core/manifest.ts";
import { type Neighbour, openSearcher, type SearchAnswer } from "../../src/core/search.ts";
import { folderSource } from "../store/folder-source.ts";
import { readManifest } from "../store/publish.ts";
import { loadKernel } from "./kernel.ts";

/** Bytes that a search on Node may hold. */
const NODE_BUDGET = 4e9;

export function readMetadata(folder: string, file: string): Metadata {
  return metadataSchema.parse(new Unpackr({ useRecords: false }).unpack(readFileSync(join(folder, file))));
}

/** Row `row` of a [rows, width] float32 file. */
export function readFloatRow(path: string, row: number, width: number): Float32Array {
  const bytes = readFileSync(path);
  return new Float32Array(
    bytes.buffer.slice(bytes.byteOffset + 4 * width * row, bytes.byteOffset + 4 * width * (row + 1)),
  );
}

export interface Row {
  id: string;
  influence: number;
  [column: string]: unknown;
}

export interface QueryResult {
  manifest: Manifest;
  answer: SearchAnswer;
  helpful: Row[];
  harmful: Row[];
}

function rowsOf(metadata: Metadata, neighbours: readonly Neighbour[]): Row[] {
  return neighbours.map(({ row, influence }) => ({
    id: metadata.ids[row] ?? String(row),
    influence,
    ...Object.fromEntries(Object.entries(metadata.columns).map(([name, values]) => [name, values[row]])),
  }));
}

/** Asks an index folder for the training examples that influence a stored query most, both ends. */
export async function queryFolder(folder: string, query: string, topK: number): Promise<QueryResult> {
  const manifest = readManifest(folder);
  const stored = manifest.queries > 0 ? readMetadata(folder, FILES.queryMetadata) : null;
  const position = stored ? stored.ids.indexOf(query) : -1;
  if (position < 0) {
    const first = stored ? `ids run from ${stored.ids[0]} to ${stored.ids.at(-1)}` : "this index stores no queries";
    throw new Error(`query ${query}: no such stored query; ${first}`);
  }
  const searcher = await openSearcher(manifest, folderSource(folder), await loadKernel(), NODE_BUDGET);
  const answer = await searcher.search(readFloatRow(join(folder, FILES.queries), position, manifest.dimension), topK);
  const metadata = readMetadata(folder, FILES.examples);
  return { manifest, answer, helpful: rowsOf(metadata, answer.helpful), harmful: rowsOf(metadata, answer.harmful) };
}
