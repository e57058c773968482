/**
 * Designs the mixing of an index (src/core/mixing.ts) from typical queries and rows: which coordinates go together, the blocks
 * themselves, the order of the mixed coordinates, and how many of them are the head. Plain float64, no onnxruntime: the same
 * bytes on every machine.
 */
import { exponentOf } from "../../src/core/basis.ts";
import { columnBytes, type Mixing, MOST_EXPONENT, WIDEST_BLOCK } from "../../src/core/mixing.ts";
import { mixed } from "./mix-rows.ts";
import { dequantised, designBlock, type MixingBlock } from "./mixing-block.ts";
import { cheapestHead, plainCost, queryProducts, type Trial } from "./mixing-cost.ts";
import { momentsOf, openSample, openTrial, type Sample } from "./mixing-sample.ts";
import type { Typical } from "./typical.ts";

export interface MixingSettings {
  R: number;
  /** [R]: the balance (src/core/basis.ts). */
  exponents: Int16Array;
  /** Widths of the layers, whose coordinates lie one after another. */
  layers: readonly number[];
  /** Rows of the whole index. */
  n: number;
}

export interface MixingDesign {
  mixing: Mixing;
  /** Of each block [w, w] row-major: z_b = inverse · p̃_b. Their Frobenius norms are at most 1, so ‖z‖ ≤ ‖p̃‖. */
  inverses: Float64Array[];
  /** How many of the mixed coordinates are the head: a multiple of 16. */
  head: number;
}

/** With fewer coordinates there is little to divide, with fewer samples nothing to learn from. */
export const FEWEST_COORDINATES = 64;
const FEWEST_PAIRS = 256;
/** The part of the products that a mixing must save: it has a price in bytes and in the time to build. */
const LEAST_SAVING = 0.15;
/** Layers wider than one of these are cut into equal parts. */
const CAPS = [256, 128, 64];
const HEAD_STEP = 16;

/**
 * The mixing with which a search is expected to multiply least; null where none saves LEAST_SAVING, or where the sample is too
 * small to say. For each block ‖p̃ − A·fl(A⁻¹ p̃)‖ ≤ LOSS · ‖p̃‖ is proved; one that could not keep it mixes nothing.
 */
export function designMixing(typical: Typical, settings: MixingSettings): MixingDesign | null {
  const { R, exponents, layers, n } = settings;
  if (R < FEWEST_COORDINATES) return null;
  const sample = openSample(typical, exponents);
  if (sample.usable.length < FEWEST_PAIRS) return null;
  const trial = openTrial(sample, n);
  let least = (1 - LEAST_SAVING) * plainCost(trial, R, n);
  let best: MixingDesign | null = null;
  for (const blocks of partitions(layers, R, sample.designed.length / 2)) {
    const entries = blocks.reduce((sum, width) => sum + width * width, 0);
    if (queryProducts(entries) >= least) continue;
    const designed = designBlocks(sample, blocks);
    const places = placesOf(designed);
    const { products, head } = cheapestHead(mixedTrial(trial, designed, places), R, n, entries, headsOf(R));
    const design = products < least ? assembled(designed, places, head) : null;
    if (!design) continue;
    least = products;
    best = design;
  }
  return best;
}

/**
 * Ways to cut R coordinates into blocks of at most `widest`, the cheapest to multiply first: by layer with the two largest caps
 * that the sample allows, and where that is possible all in one.
 */
function partitions(layers: readonly number[], R: number, widest: number): number[][] {
  const byLayer = unique(CAPS.map((cap) => layers.flatMap((width) => parts(width, cap))));
  const fitting = byLayer.filter((blocks) => Math.max(...blocks) <= widest).slice(0, 2);
  return unique([...fitting.reverse(), ...(R <= Math.min(widest, WIDEST_BLOCK) ? [[R]] : [])]);
}

const unique = (ways: number[][]): number[][] =>
  ways.filter((way, i) => ways.findIndex((other) => `${other}` === `${way}`) === i);

function parts(width: number, cap: number): number[] {
  const count = Math.ceil(width / cap);
  const start = (part: number) => Math.floor((part * width) / count);
  return Array.from({ length: count }, (_, part) => start(part + 1) - start(part));
}

/** An eighth to six eighths of the coordinates. */
function headsOf(R: number): number[] {
  const most = Math.floor(R / HEAD_STEP - 1) * HEAD_STEP;
  const heads = [1, 2, 3, 4, 5, 6].map((eighths) => Math.round((eighths * R) / 8 / HEAD_STEP) * HEAD_STEP);
  return [...new Set(heads.map((head) => Math.min(Math.max(head, HEAD_STEP), most)))];
}

function designBlocks(sample: Sample, widths: readonly number[]): MixingBlock[] {
  let from = 0;
  return widths.map((width) => {
    const { queries, rows } = momentsOf(sample, from, width);
    from += width;
    return designBlock(queries, rows, width);
  });
}

/** [R]: the place of each column's coordinate, those of the largest energy first. */
function placesOf(blocks: readonly MixingBlock[]): Uint32Array {
  const energies = blocks.flatMap((block) => [...block.energies]);
  const order = energies.map((_, column) => column).sort((a, b) => energies[b]! - energies[a]! || a - b);
  const places = new Uint32Array(energies.length);
  order.forEach((column, place) => {
    places[column] = place;
  });
  return places;
}

/** The trial as a search with these blocks sees it: coordinates in the order of their places. */
function mixedTrial({ queries, rows, thresholds }: Trial, blocks: readonly MixingBlock[], places: Uint32Array): Trial {
  return {
    queries: mixed(queries, blocks.map(dequantised), places),
    rows: mixed(
      rows,
      blocks.map(({ inverse }) => inverse),
      places,
    ),
    thresholds,
  };
}

/** The design in the index's form, scaled by a power of two so that no row grows; null where an exponent leaves its range. */
function assembled(blocks: readonly MixingBlock[], places: Uint32Array, head: number): MixingDesign | null {
  const largest = Math.max(...blocks.map(({ inverse }) => Math.sqrt(inverse.reduce((sum, x) => sum + x * x, 0))));
  // Twice as much as needed at most, and a factor of 1 + 2⁻²⁰ for the rounding of the norm and of z.
  const shift = exponentOf(largest * (1 + 2 ** -20)) + 1;
  const exponents = Int16Array.from(
    blocks.flatMap((block) => [...block.exponents].map((exponent) => exponent + shift)),
  );
  if (exponents.some((exponent) => Math.abs(exponent) > MOST_EXPONENT)) return null;
  const entries = new Int8Array(blocks.reduce((sum, { width }) => sum + width * columnBytes(width), 0));
  let at = 0;
  for (const block of blocks) {
    entries.set(block.entries, at);
    at += block.entries.length;
  }
  const inverses = blocks.map(({ inverse }) => inverse.map((x) => x * 2 ** -shift));
  return { mixing: { blocks: blocks.map(({ width }) => width), exponents, places, entries }, inverses, head };
}
