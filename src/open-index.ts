/** One version of one index, loaded: its searcher, what is known of its rows, and how to read what stays in the bucket. */
import { Unpackr } from "msgpackr";
import * as z from "zod";
import type { Bucket } from "./bucket.ts";
import { mixingOf } from "./core/descriptors.ts";
import { imageRange, offsetsRange } from "./core/image-pack.ts";
import type { Kernel } from "./core/kernel/kernel.ts";
import { FILES, fileKey, type Manifest, type Metadata } from "./core/manifest.ts";
import { addressesOf, fitting, type Tier } from "./core/resident.ts";
import { RowReader } from "./core/row-reader.ts";
import { type Backend, openTier, type SearchAnswer, type Searcher } from "./core/search.ts";
import { CorruptIndexError, type IndexSource } from "./core/source.ts";
import { pngFault } from "./png-check.ts";
import type { Row } from "./schema.ts";
import { bucketSource, readWhole } from "./store.ts";

/** Decoded metadata takes about this many times the bytes of its MessagePack (measured in V8: 3.7, for 60,000 rows of six columns). */
const DECODED_SIZE = 4;

const msgpack = new Unpackr({ useRecords: false });

/** Opens another backend for an index's neighbours, where a deployment has one. */
export type OpenBackend = (manifest: Manifest) => Promise<Backend>;

export interface OpenIndex {
  manifest: Manifest;
  source: IndexSource;
  searcher: Searcher;
  examples: Metadata;
  queries: Metadata;
  /** Rows of the stored queries, misclassified first, each kind by falling loss. */
  queryOrder: Uint32Array;
  /** [queries] crc32 of each row of queries.f32. */
  queryChecksums: Uint32Array;
  /** Bytes held in memory. */
  bytes: number;
}

/** Bytes that an index takes beside its searcher. */
function rowBytes(manifest: Manifest): number {
  const size = (file: string) => manifest.files[file]?.bytes ?? 0;
  return DECODED_SIZE * (size(FILES.examples) + size(FILES.queryMetadata)) + 2 * size(FILES.queryChecksums);
}

/** The least bytes with which an index can be served. */
export function leastBytes(manifest: Manifest): number {
  const { n, dimension } = manifest;
  const ends = (["rows", "fine", "coarse"] as const).map(
    (tier) => addressesOf(n, dimension, tier, 0, mixingOf(manifest)).end,
  );
  return Math.min(...ends) + rowBytes(manifest);
}

/** What of an index is held: its tier, how many of the longest rows beside a coarse plane alone, and the bytes of it all. */
export interface Fit {
  tier: Tier;
  longest: number;
  bytes: number;
}

/** What of an index fits `available` ≥ leastBytes: more rows are held where there is room. Throws BudgetError. */
export function whatFits(manifest: Manifest, available: number): Fit {
  const beside = rowBytes(manifest);
  const { tier, longest, bytes } = fitting(manifest.n, manifest.dimension, available - beside, mixingOf(manifest));
  return { tier, longest, bytes: bytes + beside };
}

/**
 * Loads one version, every file checked against the manifest, and holds what fits. `progress` is called at every sign of
 * life. Throws CorruptIndexError, or a Problem when the bucket fails.
 */
export async function openVersion(
  { bucket, kernel, openBackend }: { bucket: Bucket; kernel: Kernel; openBackend?: OpenBackend | undefined },
  manifest: Manifest,
  { tier, longest }: Fit,
  progress: () => void,
): Promise<OpenIndex> {
  const source = bucketSource(bucket, manifest.name, manifest.version);
  const loading = withProgress(source, progress);
  const stored = manifest.queries > 0;
  const [searcher, examples, queries, queryChecksums] = await Promise.all([
    openTier(manifest, loading, kernel, tier, longest),
    readMetadata(kernel, manifest, loading, FILES.examples, manifest.n),
    stored ? readMetadata(kernel, manifest, loading, FILES.queryMetadata, manifest.queries) : { ids: [], columns: {} },
    stored ? readChecksums(kernel, manifest, loading) : new Uint32Array(),
  ]);
  const backend = await openBackend?.(manifest);
  return {
    manifest,
    source,
    searcher: backend ? answeredBy(searcher, backend) : searcher,
    examples,
    queries,
    queryOrder: orderOf(queries),
    queryChecksums,
    bytes: searcher.residentBytes + (backend?.residentBytes ?? 0) + rowBytes(manifest),
  };
}

/** A searcher whose neighbours come from another backend; sums over groups are still its own. */
function answeredBy(searcher: Searcher, backend: Backend): Searcher {
  return {
    ...searcher,
    search: backend.search,
    async searchBatch(gradients, topK, filter) {
      const answers: SearchAnswer[] = [];
      for (const gradient of gradients) answers.push(await backend.search(gradient, topK, filter));
      return answers;
    },
  };
}

/** The same source, that reports every chunk and every range. */
function withProgress(source: IndexSource, progress: () => void): IndexSource {
  return {
    async stream(file, part) {
      const chunks = await source.stream(file, part);
      return (async function* () {
        for await (const chunk of chunks) {
          progress();
          yield chunk;
        }
      })();
    },
    async range(file, offset, length) {
      const bytes = await source.range(file, offset, length);
      progress();
      return bytes;
    },
  };
}

async function readMetadata(
  kernel: Kernel,
  manifest: Manifest,
  source: IndexSource,
  file: string,
  rows: number,
): Promise<Metadata> {
  const decoded: unknown = msgpack.unpack(await readWhole(source, kernel, manifest, file));
  if (isMetadata(decoded, rows)) return decoded;
  const key = fileKey(manifest.name, manifest.version, file);
  throw new CorruptIndexError(key, `ids and columns of ${rows} rows`, "other contents");
}

/** What metadataSchema says, and `rows` of it: by hand, because zod takes 100 ms and a copy of it all for 60,000 rows. */
function isMetadata(decoded: unknown, rows: number): decoded is Metadata {
  const parts = z.object({ ids: z.unknown(), columns: z.record(z.string(), z.unknown()) }).safeParse(decoded);
  if (!parts.success) return false;
  const holds = (column: unknown, allowed: (cell: unknown) => boolean) =>
    Array.isArray(column) && column.length === rows && column.every(allowed);
  return (
    holds(parts.data.ids, (id) => typeof id === "string") &&
    Object.values(parts.data.columns).every((column) => holds(column, isCell))
  );
}

const CELLS = new Set(["number", "string", "boolean"]);
const isCell = (cell: unknown): boolean => cell === null || CELLS.has(typeof cell);

async function readChecksums(kernel: Kernel, manifest: Manifest, source: IndexSource): Promise<Uint32Array> {
  const bytes = await readWhole(source, kernel, manifest, FILES.queryChecksums);
  if (bytes.length !== 4 * manifest.queries) {
    const key = fileKey(manifest.name, manifest.version, FILES.queryChecksums);
    throw new CorruptIndexError(key, `${4 * manifest.queries} bytes`, `${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Uint32Array.from({ length: manifest.queries }, (_, row) => view.getUint32(4 * row, true));
}

/** True where a query's prediction is another than its label; undefined where either is not known. */
export function misclassified(queries: Metadata, row: number): boolean | undefined {
  const label = queries.columns.label?.[row];
  const prediction = queries.columns.prediction?.[row];
  if (label === undefined || label === null || prediction === undefined || prediction === null) return undefined;
  return label !== prediction;
}

function orderOf(queries: Metadata): Uint32Array {
  const wrong = queries.ids.map((_, row) => (misclassified(queries, row) ? 1 : 0));
  const losses = queries.ids.map((_, row) => {
    const loss = queries.columns.loss?.[row];
    return typeof loss === "number" ? loss : 0;
  });
  return Uint32Array.from(queries.ids.keys()).sort((a, b) => wrong[b] - wrong[a] || losses[b] - losses[a] || a - b);
}

/** What the API itself says of a row; a column of such a name is not shown. */
const RESERVED = new Set(["id", "image", "influence"]);

/** The id of one row, what is `said` of it first, and its columns; one object and no copy, because answers have thousands. */
export function rowOf<Said extends object>({ ids, columns }: Metadata, row: number, said: Said): Row & Said {
  const described: Row & Said = Object.assign<Row, Said>({ id: ids[row] }, said);
  const cells: Row = described;
  for (const name in columns) if (!RESERVED.has(name)) cells[name] = columns[name][row];
  return described;
}

/** The compressed gradients of stored queries, [R] each, in few reads, each row checked. */
export async function storedQueries(index: OpenIndex, rows: readonly number[]): Promise<Float32Array[]> {
  const { manifest, source, queryChecksums } = index;
  const gradients = new Map<number, Float32Array>();
  const reader = new RowReader(source, manifest.dimension, queryChecksums, 0, FILES.queries);
  await reader.read(new Set(rows), (row, values) => gradients.set(row, values));
  return rows.flatMap((row) => gradients.get(row) ?? []);
}

/** Little-endian float32 as a typed array, without copying where the bytes are aligned. */
export function littleEndianFloats(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}

/** The PNG of a row, checked by its own checksums. `file`: FILES.exampleImages or FILES.queryImages. */
export async function readImage(index: OpenIndex, file: string, row: number): Promise<Uint8Array> {
  const { manifest, source } = index;
  const key = fileKey(manifest.name, manifest.version, file);
  const head = offsetsRange(row);
  const { offset, length } = imageRange(await source.range(file, head.offset, head.length));
  const within = length > 0 && offset + length <= (manifest.files[file]?.bytes ?? 0);
  if (!within) {
    throw new CorruptIndexError(`${key} (image ${row})`, "offsets within the file", `${offset} … ${offset + length}`);
  }
  const bytes = await source.range(file, offset, length);
  const fault = pngFault(bytes);
  if (fault) throw new CorruptIndexError(`${key} (image ${row})`, fault.expected, fault.got);
  return bytes;
}
