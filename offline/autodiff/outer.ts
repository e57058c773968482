/**
 * Dense layers: entry (p, q) of the gradient of an example is Σ over positions of x[p]·δ[q]. Three plans, of which the cheapest is
 * taken: gather the kept rows of x and δ and multiply them; multiply blocks of the rows that kept entries lie in, and pick the
 * entries from each block before the next (a grid of rows × columns is one block); or, for a small layer, the whole product.
 */
import type { Builder } from "../onnx/builder.ts";
import type { Value } from "../onnx/graph.ts";
import { examplesFirst, rowsFirst } from "./axes.ts";
import { cheapest, estimate, factorsOf, fixed, numberOf, type PerExample, type Plan } from "./per-example.ts";
import { matrixExtents, type Side, type Sides, vectors } from "./sides.ts";

/**
 * Costs in multiply-adds of a matrix product (20 ps each where measured: two cores, onnxruntime 1.30, 512 × 512 layers): gathering
 * two entries, their product and its sum take 1 ns; picking an entry of a product, 4 ns.
 */
export const COST = { row: 50, pick: 200, move: 10 };

/** Entries of a gradient that may exist at once, for each example. */
export const LARGEST_BLOCK = 1 << 16;

/** Gathered rows of an example held at once, in numbers: what stays in a core's cache with a batch of 16. */
const CHUNK = 1 << 14;

export interface Outer {
  x: Value;
  xAxes: number[];
  d: Value;
  dAxes: number[];
  /** Extent of the axes that x and δ share, which come first in both. */
  shared: number;
  /** Rows of x and δ of an entry. */
  rows: (position: number) => [number, number];
  /** The entry of such a pair, the shared axes' index being that of the row of δ. */
  position: (p: number, q: number) => number;
  scale: number;
}

/** [r, B, ...positions] → [r, B]. */
export const overPositions = (b: Builder, products: Value): Value =>
  b.sum(
    products,
    products.shape.flatMap((_, axis) => (axis < 2 ? [] : [axis])),
  );

/** `list` in runs short enough that their gathered rows, `numbers` for an example, stay in cache. */
export function chunks<T>(list: readonly T[], positions: number, numbers = CHUNK): T[][] {
  const size = Math.max(16, Math.floor(numbers / positions));
  return Array.from({ length: Math.ceil(list.length / size) }, (_, run) => list.slice(run * size, (run + 1) * size));
}

const ascending = (list: readonly number[]): number[] => [...new Set(list)].sort((a, b) => a - b);

export function outerProduct(b: Builder, shape: number[], use: Outer): PerExample {
  const { x, d } = use;
  const xRows = numberOf(fixed(use.xAxes.map((axis) => x.shape[axis] ?? 1)));
  const dRows = numberOf(fixed(use.dAxes.map((axis) => d.shape[axis] ?? 1)));
  const [xWidth, dWidth] = [xRows / use.shared, dRows / use.shared];
  const perExample = estimate(d.shape.filter((_, axis) => axis !== d.batch?.axis));
  const positions = Math.max(1, (perExample * estimate([d.batch?.inner ?? 1])) / dRows);
  const full = xWidth * dRows;

  function plan(kept: readonly number[]): Plan {
    const moved = COST.move * (xRows + dRows) * positions;
    const plans: Omit<Plan, "others">[] = [{ kind: "rows", cost: COST.row * kept.length * positions + moved }];
    if (full <= LARGEST_BLOCK) plans.push({ kind: "whole", cost: full * positions + COST.pick * kept.length });
    if (use.shared === 1) {
      const pairs = kept.map(use.rows);
      const [left, right] = [new Set(pairs.map(([p]) => p)).size, new Set(pairs.map(([, q]) => q)).size];
      plans.push({ kind: "blocks", cost: left * right * positions + COST.pick * kept.length + moved });
    }
    return cheapest(plans);
  }

  function fromRows(kept: readonly number[]): Value {
    const [left, right] = [rowsFirst(b, x, use.xAxes), rowsFirst(b, d, use.dAxes)];
    const parts = chunks(kept.map(use.rows), positions).map((pairs) => {
      const seen = b.gather(
        left,
        pairs.map(([p]) => p),
      );
      const delta = b.gather(
        right,
        pairs.map(([, q]) => q),
      );
      return overPositions(b, b.mul(seen, delta));
    });
    return b.concat(parts, 0);
  }

  function fromBlocks(kept: readonly number[]): Value {
    const pairs = kept.map((position, rank) => ({ pair: use.rows(position), rank }));
    const chosen = ascending(pairs.map(({ pair: [p] }) => p));
    const left = picked(examplesFirst(b, x, use.xAxes), chosen, xRows);
    const place = new Map(chosen.map((p, at) => [p, at]));
    const columns = ascending(pairs.map(({ pair: [, q] }) => q));
    const width = Math.max(1, Math.floor(LARGEST_BLOCK / chosen.length));
    const right = examplesFirst(b, d, use.dAxes);
    const order: number[] = [];
    const parts: Value[] = [];
    for (let start = 0; start < columns.length; start += width) {
      const block = columns.slice(start, start + width);
      const at = new Map(block.map((q, index) => [q, index]));
      const here = pairs.filter(({ pair: [, q] }) => at.has(q));
      const product = b.op("MatMul", [left, b.transpose(picked(right, block, dRows), [0, 2, 1])]);
      const entries = b.reshape(product, [b.batch, chosen.length * block.length]);
      const indices = here.map(({ pair: [p, q] }) => (place.get(p) ?? 0) * block.length + (at.get(q) ?? 0));
      parts.push(b.transpose(b.gather(entries, indices, 1), [1, 0]));
      order.push(...here.map(({ rank }) => rank));
    }
    return inOrder(b, b.concat(parts, 0), order);
  }

  function picked(rows: Value, chosen: readonly number[], of: number): Value {
    return chosen.length === of ? rows : b.gather(rows, chosen, 1);
  }

  /** [B, shared·xWidth·dWidth]. */
  function product(): Value {
    const [left, right] = [examplesFirst(b, x, use.xAxes), examplesFirst(b, d, use.dAxes)];
    const blocks = (v: Value, width: number) =>
      use.shared === 1 ? v : b.reshape(v, [v.shape[0] ?? 1, use.shared, width, ...v.shape.slice(2)]);
    const turned = b.transpose(blocks(right, dWidth), use.shared === 1 ? [0, 2, 1] : [0, 1, 3, 2]);
    return b.reshape(b.op("MatMul", [blocks(left, xWidth), turned]), [b.batch, full]);
  }
  const entry = (position: number): number => {
    const [p, q] = use.rows(position);
    return p * dWidth + (q % dWidth);
  };

  return {
    shape,
    at: (kept) => {
      const { kind } = plan(kept);
      if (kind === "rows") return b.scaled(fromRows(kept), use.scale);
      if (kind === "blocks") return b.scaled(fromBlocks(kept), use.scale);
      return b.scaled(b.transpose(b.gather(product(), kept.map(entry), 1), [1, 0]), use.scale);
    },
    whole: () => {
      const order = Array.from({ length: numberOf(shape) }, (_, position) => entry(position));
      const straight = order.every((at, position) => at === position);
      const entries = straight ? product() : b.gather(product(), order, 1);
      return b.scaled(b.reshape(entries, [b.batch, ...shape]), use.scale);
    },
    plan,
    sides: sidesOf(b, shape, use, positions),
    factors: [
      factorsOf(
        b,
        () => rowsFirst(b, x, use.xAxes),
        () => rowsFirst(b, d, use.dAxes),
        use.rows,
        [xRows, dRows],
        { blocks: use.shared, each: 1, at: use.position },
      ),
    ],
  };
}

/** As a matrix, if its rows and columns are the rows of x and δ or of δ and x. */
function sidesOf(b: Builder, shape: readonly number[], use: Outer, positions: number): Sides[] | null {
  const { x, xAxes, d, dAxes, rows, scale } = use;
  const [height, width] = matrixExtents(shape);
  const corners = [0, width - 1, (height - 1) * width, height * width - 1].map((at) => ({
    pair: rows(at),
    cell: [Math.floor(at / width), at % width],
  }));
  const extent = (v: Value, axes: number[]) => numberOf(fixed(axes.map((axis) => v.shape[axis] ?? 1)));
  const fits = (p: number, q: number) =>
    extent(x, xAxes) === [height, width][p] &&
    extent(d, dAxes) === [height, width][q] &&
    corners.every(({ pair, cell }) => pair[0] === cell[p] && pair[1] === cell[q]);
  const last = (v: Value, axes: number[]) => axes.length === 1 && axes[0] === v.shape.length - 1;
  const straight = last(x, xAxes) && last(d, dAxes);
  const [ofX, ofD] = [rowSide(b, x, xAxes, straight), rowSide(b, d, dAxes, straight)];
  const rest = { scale, held: false, positions };
  if (fits(0, 1)) return [{ left: ofX, right: ofD, ...rest }];
  return fits(1, 0) ? [{ left: ofD, right: ofX, ...rest }] : null;
}

/** Rows along axes of a value; `straight`: along its last one, and the positions' axes are to be left as they are. */
export function rowSide(b: Builder, v: Value, axes: number[], straight: boolean): Side {
  const rows = () => examplesFirst(b, v, axes);
  return vectors(b, numberOf(fixed(axes.map((axis) => v.shape[axis] ?? 1))), rows, (directions) => {
    const own = b.cast(directions, v.type);
    if (straight) return { value: b.op("MatMul", [v, own]), axes };
    return { value: b.op("MatMul", [b.transpose(own, [1, 0]), rows()]), axes: [1] };
  });
}

/** Rows computed in another order, back in theirs: row i of the result is the one whose rank is i. */
export function inOrder(b: Builder, rows: Value, ranks: readonly number[]): Value {
  if (ranks.every((rank, at) => rank === at)) return rows;
  const source = new Array<number>(ranks.length).fill(0);
  ranks.forEach((rank, at) => {
    source[rank] = at;
  });
  return b.gather(rows, source);
}
