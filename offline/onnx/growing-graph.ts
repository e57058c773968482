/**
 * A graph that grows: nodes are added one after another, and of every value added the type, the shape and the place of the
 * examples are known at once. Equal nodes are added once.
 */

import { type Dim, mentions, productOf, terms } from "./dims.ts";
import { whereExamples } from "./examples.ts";
import { type Attribute, ELEMENT, type Graph, isFloat, type Node, type Port, type Value, where } from "./graph.ts";
import { unknownExtent } from "./infer/context.ts";
import { infer } from "./infer.ts";
import { extents, isExternal, numbersOf, tensorOf } from "./tensor.ts";

type Attributes = Record<string, Attribute>;

/** Constants larger than this are left unread. */
const LARGEST_READ = 1 << 16;

export type GrowingGraph = ReturnType<typeof growingGraph>;

/** The graph starts with `graph`'s inputs and initialisers, and without nodes. `batch` is the symbol of the number of examples. */
export function growingGraph(graph: Graph, batch: string) {
  const values = new Map<string, Value>();
  const nodes: Node[] = [];
  const initializers = new Map(graph.initializers);
  const inputs = [...graph.inputs];
  const constants = new Map<string, Value>();
  const seen = new Map<string, Value[]>();
  /** Where each symbol can be read when the graph runs. */
  const sources = new Map<string, { value: Value; axis: number }>();
  const taken = new Set([...graph.initializers.keys(), ...graph.nodes.flatMap((node) => node.outputs)]);
  let counter = 0;
  let scope = "";

  /** A name that the model does not use. */
  function fresh(stem: string): string {
    let name = `${stem}.${counter++}`;
    while (taken.has(name)) name = `${stem}.${counter++}`;
    return name;
  }

  function record(value: Value): Value {
    values.set(value.name, value);
    value.shape.forEach((dim, axis) => {
      if (typeof dim === "string" && !sources.has(dim) && terms(dim)[0]?.symbols[0] === dim) {
        sources.set(dim, { value, axis });
      }
    });
    return value;
  }

  function fromInitializer(name: string): Value {
    const tensor = initializers.get(name);
    if (!tensor)
      throw new Error(`value ${name}: expected a node, an input or an initializer to give it; export the model again`);
    const shape = extents(tensor);
    const type = tensor.dataType ?? 0;
    const readable =
      !isExternal(tensor) && !isFloat(type) && type !== ELEMENT.string && Number(productOf(shape)) <= LARGEST_READ;
    return record({ name, type, shape, batch: null, known: readable ? numbersOf(tensor) : null, mixed: false });
  }

  const value = (name: string): Value => values.get(name) ?? fromInitializer(name);

  function recordInput(port: Port): Value {
    const axis = port.shape.findIndex((dim) => mentions(dim, batch));
    const place = axis < 0 ? null : { axis, inner: 1 };
    return record({ name: port.name, type: port.type, shape: port.shape, batch: place, known: null, mixed: false });
  }
  for (const input of inputs) recordInput(input);

  /** Contents of a small constant, or null. */
  function contents(of: Value): Dim[] | null {
    if (of.known) return of.known;
    const tensor = initializers.get(of.name);
    if (!tensor || isExternal(tensor) || Number(productOf(of.shape)) > LARGEST_READ) return null;
    return numbersOf(tensor);
  }

  /** An input of the whole graph. */
  function addInput(port: Port): Value {
    inputs.push(port);
    return recordInput(port);
  }

  /** Adds a node under the names that it has. */
  function append(node: Node): Value[] {
    const operands = node.inputs.map((name) => (name === "" ? null : value(name)));
    const given = infer({
      node,
      batch,
      input: (index) => {
        const operand = operands[index];
        if (!operand)
          throw new Error(`${where(node)}: expected an input at position ${index}, got none; export the model again`);
        return operand;
      },
      optional: (index) => operands[index] ?? null,
      constant: (index) => {
        const operand = operands[index];
        return operand ? contents(operand) : null;
      },
      unknown: () => unknownExtent(counter++),
    });
    const present = operands.filter((operand) => operand !== null);
    nodes.push(node);
    return node.outputs.map((name, index) => {
      const inferred = given[index] ?? given[0];
      if (!inferred)
        throw new Error(`${where(node)}: expected at most ${given.length} outputs, got ${node.outputs.length}`);
      const { type, shape, known = null } = inferred;
      const output = { name, type, shape, known, ...whereExamples(node, inferred, present, batch) };
      return name === "" ? output : record(output);
    });
  }

  /** Adds an operator of ONNX's own set, with `count` outputs, unless the same was added before. */
  function ops(op: string, operands: readonly (Value | null)[], count: number, attributes: Attributes = {}): Value[] {
    const names = operands.map((operand) => operand?.name ?? "");
    const key = JSON.stringify([op, names, attributes, count]);
    const before = seen.get(key);
    if (before) return before;
    const name = fresh(`${scope}${op}`);
    const outputs = Array.from({ length: count }, (_, index) => (index === 0 ? name : `${name}:${index}`));
    const added = append({ name, op, domain: "", inputs: names, outputs, attributes });
    seen.set(key, added);
    return added;
  }

  function op(name: string, operands: readonly (Value | null)[], attributes: Attributes = {}): Value {
    const [only] = ops(name, operands, 1, attributes);
    if (!only) throw new Error(`operator ${name}: expected one output, got none`);
    return only;
  }

  function constant(type: number, shape: number[], entries: ArrayLike<number>): Value {
    const key = `${type}[${shape}]${Array.from(entries).join()}`;
    const before = constants.get(key);
    if (before) return before;
    const name = fresh("constant");
    initializers.set(name, tensorOf(type, shape, entries));
    const made = fromInitializer(name);
    constants.set(key, made);
    return made;
  }

  const ints = (entries: ArrayLike<number>): Value => constant(ELEMENT.int64, [entries.length], entries);

  /** An extent as an int64 value of one entry, computed while running if need be. */
  function extent(dim: Dim): Value {
    if (typeof dim === "number") return ints([dim]);
    const source = sources.get(dim);
    if (source) return op("Shape", [source.value], { start: source.axis, end: source.axis + 1 });
    const parts = terms(dim).map(({ coefficient, symbols }) => {
      if (symbols[0] === dim) throw new Error(`extent ${dim}: expected it to be the extent of some value, found none`);
      return symbols.map(extent).reduce((a, b) => op("Mul", [a, b]), ints([coefficient]));
    });
    return parts.reduce((a, b) => op("Add", [a, b]));
  }

  return {
    batch,
    inputs,
    nodes,
    initializers,
    value,
    append,
    addInput,
    op,
    ops,
    contents,
    constant,
    ints,
    extent,
    /** Names given from now on start with `name/`. */
    within: (name: string) => {
      scope = name ? `${name}/` : "";
    },
  };
}
