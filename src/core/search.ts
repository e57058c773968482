/** What every search backend answers. */

/** One training example and its signed influence on the query's loss (eq. 4): − g̃_q · p_row. */
export interface Neighbour {
  row: number;
  influence: number;
}

export interface SearchAnswer {
  /** Rows of negative influence, most negative first; ties by row. At most topK. */
  helpful: Neighbour[];
  /** Rows of positive influence, most positive first; ties by row. At most topK. */
  harmful: Neighbour[];
  /** True when the order and the members are proved (certified), not only likely. */
  exact: boolean;
  /** Rows whose interval from the coarse plane reached the k-th best, and rows read in full precision. */
  survivors: number;
  rescored: number;
}

/** An opened index, ready to be asked. */
export interface Searcher {
  readonly n: number;
  readonly dimension: number;
  /** Bytes held in memory. */
  readonly residentBytes: number;
  /** `gradient`: [R] float32, the compressed query gradient g̃_q, finite. `topK` ≥ 1. */
  search(gradient: Float32Array, topK: number): Promise<SearchAnswer>;
}
