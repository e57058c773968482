/** Bytes offset … offset + length − 1 of a file. */
export interface Part {
  offset: number;
  length: number;
}

/**
 * The one seam between an index and where it lies: R2 on the edge, a folder on Node. Files are immutable; a source belongs to
 * one version of one index.
 */
export interface IndexSource {
  /**
   * The file as it arrives, whole or `part` of it: less where the file ends before. A chunk may change once the next is asked for. Throws
   * if there is no such file.
   */
  stream(file: string, part?: Part): Promise<AsyncIterable<Uint8Array>>;
  /** Bytes offset … offset + length − 1. Throws RangeError or CorruptIndexError if the file ends before. */
  range(file: string, offset: number, length: number): Promise<Uint8Array>;
}

/** A file that is not what its manifest says. Never served: the version that held it is refused. */
export class CorruptIndexError extends Error {
  readonly file: string;
  constructor(file: string, expected: string, got: string) {
    super(`${file}: expected ${expected}, got ${got}; publish the index again`);
    this.name = "CorruptIndexError";
    this.file = file;
  }
}
