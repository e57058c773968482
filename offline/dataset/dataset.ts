/** A dataset as the steps see it: model inputs and targets of any rows, with ids, columns and images. */
import type { Tensor } from "onnxruntime-node";
import { type ColumnFile, type Config, configured, type SplitConfig } from "../command/config.ts";
import type { TensorSpec } from "../compile/tensor-spec.ts";
import { type Cell, type Column, cellsOf, type NumberColumn } from "./column.ts";
import { checkUnique } from "./ids.ts";
import { flipLabels, type Labels, readLabels } from "./labels.ts";
import { openColumn } from "./open-column.ts";
import { openRagged, type Ragged } from "./ragged.ts";
import { padded, tensorOf } from "./tensors.ts";

export interface Image {
  width: number;
  height: number;
  channels: 1 | 3;
  /** [height, width, channels] unsigned bytes, 0 black. */
  pixels: Uint8Array;
}

/** What the index shows of each example under one name. */
export interface ShownColumn {
  name: string;
  read(rows: readonly number[]): Promise<Cell[]>;
}

export interface Dataset {
  n: number;
  /** Gradients computed elsewhere, when the split gives them. */
  gradients: Column | null;
  ids(rows: readonly number[]): Promise<string[]>;
  /** Throws an Error that names both rows when an id occurs twice. Reads them all: once, before anything is collected. */
  checkIds(): Promise<void>;
  /** Feeds for gradient.onnx: the model's inputs and `target` of the given rows, in their order. */
  feeds(rows: readonly number[]): Promise<Record<string, Tensor>>;
  /** The given rows in the order to batch them: by length where lengths differ, so that little is padding. */
  order(rows: readonly number[]): Promise<number[]>;
  /** Columns for the index: the configured ones, `label` where the target is one integer, `flipped` and `was`. */
  columns: ShownColumn[];
  /** The picture of a row; null when the dataset has none. */
  image: ((row: number) => Promise<Image>) | null;
}

/** An input or target: fixed extents, lists to pad, or derived from another input. */
type Source =
  | { kind: "fixed"; column: NumberColumn; shape: number[]; divideBy: number }
  | { kind: "ragged"; ragged: Ragged; pad: number; whole: boolean }
  | { kind: "derived"; from: string; value: "mask" | "zeros" | "labels" };

/** Extents that the model fixes: a named axis takes anything. */
function checkShape(what: string, wanted: readonly (number | string)[], got: readonly number[]): void {
  const fits =
    wanted.length === got.length && wanted.every((extent, axis) => typeof extent !== "number" || extent === got[axis]);
  if (!fits) {
    throw new Error(
      `${what}: the model expects extents [${wanted.join(", ")}], the dataset has [${got.join(", ")}]; set \`shape\` for it or use the model's own data`,
    );
  }
}

function sourceOf(
  what: string,
  spec: TensorSpec,
  entry: ColumnFile,
  column: Column,
  folder: string,
  pad: number,
): Source {
  if (column.kind === "values") {
    // Token ids are padded without being asked; measurements are not.
    const whole = spec.type.startsWith("float") && entry.pad === undefined;
    return { kind: "ragged", ragged: openRagged(column, entry, folder), pad: entry.pad ?? pad, whole };
  }
  const shape = entry.shape ?? column.extents;
  const size = (extents: readonly number[]) => extents.reduce((product, extent) => product * extent, 1);
  if (size(shape) !== size(column.extents)) {
    throw new Error(
      `${what}: shape [${shape.join(", ")}] has ${size(shape)} values, an example of ${column.name} ${size(column.extents)}`,
    );
  }
  checkShape(what, spec.shape.slice(1), shape);
  return { kind: "fixed", column, shape, divideBy: entry.divideBy };
}

const isInteger = (type: string) => type.startsWith("int") || type.startsWith("uint");

/**
 * Opens a split of the configured dataset for a model with the given inputs. `classes`: how many labels the loss can tell
 * apart (null: unknown). `scratch`: a folder for unpacked files and remembered digests.
 * Throws an Error that names file or field when files are missing, lengths differ, extents do not fit the model, or a label
 * is out of range.
 */
export async function openDataset(
  config: Config,
  split: SplitConfig,
  inputs: readonly TensorSpec[],
  target: TensorSpec | null,
  classes: number | null,
  scratch: string,
): Promise<Dataset> {
  const { folder } = config;
  const open = (entry: ColumnFile) => openColumn(entry, folder, scratch);
  const lengths: { name: string; n: number }[] = [];
  const openEntry = async (entry: ColumnFile): Promise<Column> => {
    const column = await open(entry);
    lengths.push(column);
    return column;
  };

  const sources = new Map<string, Source>();
  const given = Object.keys(split.inputs).join(", ") || "none";
  for (const spec of inputs) {
    const entry = split.inputs[spec.name];
    const what = `inputs.${spec.name}`;
    if (!entry)
      throw new Error(`inputs: the model expects an input named ${spec.name}, the configuration gives: ${given}`);
    if ("maskOf" in entry) sources.set(spec.name, { kind: "derived", from: entry.maskOf, value: "mask" });
    else if ("zerosLike" in entry) sources.set(spec.name, { kind: "derived", from: entry.zerosLike, value: "zeros" });
    else sources.set(spec.name, sourceOf(what, spec, entry, await openEntry(entry), folder, 0));
  }
  if (target) {
    if (!split.target)
      throw new Error(
        `target: the loss needs one; set \`target\` to a file and column, or \`labelsOf\` an input of tokens`,
      );
    if ("labelsOf" in split.target)
      sources.set(target.name, { kind: "derived", from: split.target.labelsOf, value: "labels" });
    else
      sources.set(target.name, sourceOf("target", target, split.target, await openEntry(split.target), folder, -100));
  }
  const gradients = split.gradients ? await openEntry(split.gradients) : null;
  for (const [name, source] of sources) {
    if (source.kind === "derived" && sources.get(source.from)?.kind !== "ragged") {
      throw new Error(
        `${name}: expected ${source.from} to be an input of lists or text, got ${sources.has(source.from) ? "fixed extents" : "no such input"}`,
      );
    }
  }
  const columns = new Map<string, Column>();
  for (const [name, entry] of Object.entries(split.columns)) columns.set(name, await openEntry(entry));
  const idColumn = split.ids ? await openEntry(split.ids) : null;

  const [first] = lengths;
  if (!first) throw new Error("the dataset names no file; expected at least one input with `file`");
  for (const { name, n } of lengths) {
    if (n !== first.n) throw new Error(`${name}: expected ${first.n} examples as in ${first.name}, got ${n}`);
  }
  const n = Math.min(first.n, split.limit ?? first.n);
  if (n === 0) throw new Error(`${first.name}: the dataset is empty; expected at least one example`);
  const ids = async (rows: readonly number[]): Promise<string[]> =>
    idColumn
      ? (await cellsOf(idColumn, rows)).map(String)
      : rows.map((row) => `${split.idPrefix}${String(row).padStart(5, "0")}`);

  const labels = target ? await labelsOf(sources.get(target.name)!, target, n) : null;
  const changed =
    labels && split.flipped !== undefined ? flipLabels(labels, configured(config, split.flipped)) : undefined;
  if (labels && classes !== null) {
    const wrong = labels.findIndex((value) => value < 0 || value >= classes);
    if (wrong >= 0) {
      const [id] = await ids([wrong]);
      throw new Error(
        `example ${id}: expected a label of 0 … ${classes - 1}, as many as the model has outputs, got ${labels[wrong]}`,
      );
    }
  }

  const raggeds = [...sources.values()].flatMap((source) => (source.kind === "ragged" ? [source.ragged] : []));
  const pictured = split.image === undefined ? undefined : sources.get(split.image);
  if (split.image !== undefined && pictured?.kind !== "fixed")
    throw new Error(`image: no input of fixed extents named ${split.image}`);

  return {
    n,
    ids,
    checkIds: async () => {
      if (idColumn) await checkUnique(idColumn, n);
    },
    gradients,
    columns: shownColumns(columns, labels, changed),
    order: async (rows) => {
      const [longest] = raggeds;
      if (!longest) return [...rows];
      for (const ragged of raggeds) ragged.forget();
      const size = (await longest.read(rows)).map((list) => list.length);
      return rows
        .map((row, at) => ({ row, size: size[at]! }))
        .sort((a, b) => a.size - b.size || a.row - b.row)
        .map(({ row }) => row);
    },
    feeds: async (rows) => {
      const feeds: Record<string, Tensor> = {};
      for (const spec of target ? [...inputs, target] : inputs) {
        const source = sources.get(spec.name)!;
        if (spec === target && labels)
          feeds[spec.name] = tensorOf(
            spec,
            rows.map((row) => labels[row]!),
            [rows.length],
          );
        else if (source.kind === "fixed") {
          const values = await source.column.read(rows);
          feeds[spec.name] = tensorOf(spec, values, [rows.length, ...source.shape], source.divideBy);
        } else if (source.kind === "ragged") {
          const lists = await source.ragged.read(rows);
          checkLengths(spec, source, rows, lists);
          feeds[spec.name] = padded(spec, lists, (number) => number, source.pad);
        } else {
          const from = sources.get(source.from);
          if (from?.kind !== "ragged") throw new Error(`${spec.name}: ${source.from} is not an input of lists`);
          const lists = await from.ragged.read(rows);
          // The next token of each position; the last has none.
          if (source.value === "labels")
            feeds[spec.name] = padded(
              spec,
              lists.map((list) => [...list.slice(1), -100]),
              (token) => token,
              -100,
            );
          else feeds[spec.name] = padded(spec, lists, () => (source.value === "mask" ? 1 : 0), 0);
        }
      }
      return feeds;
    },
    image:
      pictured?.kind === "fixed" ? (row) => picture(pictured.column, pictured.shape, pictured.divideBy, row) : null,
  };
}

/** Throws an Error that names the first list that is longer than the model takes, or shorter where nothing says how to fill it. */
function checkLengths(
  spec: TensorSpec,
  { ragged, whole }: { ragged: Ragged; whole: boolean },
  rows: readonly number[],
  lists: readonly number[][],
): void {
  const length = spec.shape[1];
  if (typeof length !== "number") return;
  const at = lists.findIndex((list) => list.length > length || (whole && list.length < length));
  if (at < 0) return;
  const got = lists[at]!.length;
  const advice = got > length ? "set `maxLength` to cut longer ones" : "set `pad` to fill shorter ones";
  throw new Error(
    `${spec.name}: ${ragged.name}: example ${rows[at]}: expected ${length} values as the model takes, got ${got}; mend it, or ${advice}`,
  );
}

/** The labels, where the target is one integer an example. */
async function labelsOf(source: Source, target: TensorSpec, n: number): Promise<Labels | null> {
  if (!isInteger(target.type) || target.shape.length !== 1 || source.kind === "derived") return null;
  if (source.kind === "fixed") return readLabels(source.column.name, n, (rows) => source.column.read(rows));
  const { ragged } = source;
  return readLabels(ragged.name, n, async (rows) => {
    const lists = await ragged.read(rows);
    ragged.forget();
    return lists.map(([label]) => label ?? -1);
  });
}

/** The configured columns, `label`, and of labels changed on purpose `flipped` and `was`. */
function shownColumns(
  configured: Map<string, Column>,
  labels: Labels | null,
  changed: Map<number, number> | undefined,
): ShownColumn[] {
  const shown = new Map<string, ShownColumn["read"]>();
  for (const [name, column] of configured) shown.set(name, (rows) => cellsOf(column, rows));
  if (labels) shown.set("label", async (rows) => rows.map((row) => labels[row]!));
  if (labels && changed) {
    shown.set("flipped", async (rows) => rows.map((row) => changed.has(row)));
    shown.set("was", async (rows) => rows.map((row) => changed.get(row) ?? labels[row]!));
  }
  return Array.from(shown, ([name, read]) => ({ name, read }));
}

async function picture(column: NumberColumn, shape: readonly number[], divideBy: number, row: number): Promise<Image> {
  const values = await column.read([row]);
  const [height = 1, width = 1] = shape.slice(-2);
  const channels = shape.length >= 3 && shape.at(-3) === 3 ? 3 : 1;
  const scale = values instanceof Uint8Array ? 1 : 255 / divideBy;
  const pixels = new Uint8Array(width * height * channels);
  for (let at = 0; at < width * height; at++) {
    for (let channel = 0; channel < channels; channel++) {
      const value = Math.round(Number(values[channel * width * height + at] ?? 0) * scale);
      pixels[at * channels + channel] = Math.min(255, Math.max(0, value));
    }
  }
  return { width, height, channels, pixels };
}
