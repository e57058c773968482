/** What the API needs of the place where indexes lie: an R2 bucket has it, and so have folders on Node (offline/store/folder-bucket.ts). */

export interface BucketObject {
  /** Changes with the contents. */
  readonly etag: string;
}

export interface BucketBody extends BucketObject {
  readonly body: ReadableStream<Uint8Array>;
  text(): Promise<string>;
  bytes(): Promise<Uint8Array>;
}

export interface GetOptions {
  /** Where the etag is this one, the object comes without a body. */
  onlyIf?: { etagDoesNotMatch: string };
  range?: { offset: number; length: number };
}

export type ListPage = { delimitedPrefixes: string[] } & ({ truncated: true; cursor: string } | { truncated: false });

export interface Bucket {
  /** The object under a key, or null. */
  get(key: string, options?: GetOptions): Promise<BucketBody | BucketObject | null>;
  /** What the keys of a prefix have up to the next delimiter. */
  list(options: { prefix: string; delimiter: string; cursor?: string }): Promise<ListPage>;
}
