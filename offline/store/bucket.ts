/** What an index is published to. */

/** A key as the path of an address, and as S3 wants it named. */
export const pathOf = (key: string): string => key.split("/").map(encodeURIComponent).join("/");

/** A file, as its manifest lists it. */
export interface ListedFile {
  path: string;
  bytes: number;
  sha256: string;
}

/** What a listing tells of an object. */
export interface ListedObject {
  key: string;
  bytes: number;
  uploaded: Date;
}

export interface Bucket {
  /** What a person calls it. */
  name: string;
  /** Size of an object in bytes, or null. */
  size(key: string): Promise<number | null>;
  get(key: string): Promise<Uint8Array | null>;
  put(key: string, bytes: Uint8Array): Promise<void>;
  /**
   * Uploads a file; `advance` is told how many bytes went. Throws an Error where the file is not what is listed; there is no object
   * then, nor where the upload is interrupted.
   */
  putFile(key: string, file: ListedFile, advance: (bytes: number) => void): Promise<void>;
  /** Copies an object within the bucket, unless there is none under `from` or it is too large for that: false then. */
  copy(from: string, to: string): Promise<boolean>;
  /** Every object whose key begins so. */
  list(prefix: string): Promise<ListedObject[]>;
  delete(key: string): Promise<void>;
  close(): Promise<void>;
}
