/**
 * A graph that grows: nodes are added one after another, and of every value added the type, the shape and the place of the
 * examples are known at once. Equal nodes are added once.
 */

import { decompose } from "./decompose.ts";
import { type Dim, mentions, productOf, terms } from "./dims.ts";
import { type Attribute, ELEMENT, type Graph, isFloat, type Node, type Port, type Value, where } from "./graph.ts";
import { type Inferred, unknownExtent } from "./infer/context.ts";
import { infer } from "./infer.ts";
import { conditionOf } from "./known.ts";
import { branchNodes } from "./normalise.ts";
import { extents, isExternal, numbersOf, tensorOf } from "./tensor.ts";

type Attributes = Record<string, Attribute>;

/** Constants larger than this are left unread. */
const LARGEST_READ = 1 << 16;

export type Builder = ReturnType<typeof createBuilder>;

/**
 * A builder over the nodes of `graph` (which it leaves as they are). `batch` is the symbol of the number of examples; shapes of
 * the graph's inputs must use it where their examples lie.
 * Throws on an operator that is not understood.
 */
export function createBuilder(graph: Graph, batch: string) {
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

  function locate(node: Node, given: Inferred, all: readonly Value[]): Pick<Value, "batch" | "mixed"> {
    const lost = { batch: null, mixed: true };
    const none = { batch: null, mixed: false };
    if (node.op === "Shape" || node.op === "Size") return none;
    if (given.mixes) return lost;
    const operands = node.op === "CastLike" ? all.slice(0, 1) : all;
    const axis = given.shape.findIndex((dim) => mentions(dim, batch));
    if (axis < 0) return operands.some((operand) => operand.batch) && given.known == null ? lost : none;
    const dim = given.shape[axis];
    const alike = operands.find((operand) => operand.batch && operand.shape[operand.batch.axis] === dim);
    const inner = dim === batch ? 1 : (given.inner ?? alike?.batch?.inner ?? null);
    return inner === null ? lost : { batch: { axis, inner }, mixed: false };
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
      const output = { name, type, shape, known, ...locate(node, inferred, present) };
      return name === "" ? output : record(output);
    });
  }

  /**
   * Adds the nodes of a model. An If whose condition is known becomes its branch, a composite operator its parts.
   */
  function addModel(list: readonly Node[]): void {
    for (const node of list) {
      if (node.op !== "If" || node.domain !== "") {
        if (!decompose(builder, node)) append(node);
        continue;
      }
      const truth = conditionOf(value(node.inputs[0] ?? ""));
      const branch = node.attributes[truth ? "then_branch" : "else_branch"];
      if (truth === null || typeof branch !== "object" || !("graph" in branch)) {
        throw new Error(
          `${where(node)}: expected a constant condition, got one that depends on the input; export without the branch`,
        );
      }
      addModel(branchNodes(node, branch.graph, initializers));
    }
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

  /** A number of the element type of `like`, of rank 0. */
  function scalar(entry: number, like: Value): Value {
    if (like.type === ELEMENT.float16 || like.type === ELEMENT.bfloat16) {
      return op("Cast", [constant(ELEMENT.float32, [], [entry])], { to: like.type });
    }
    return constant(like.type, [], [entry]);
  }

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

  function shape(dims: readonly Dim[]): Value {
    if (dims.every((dim) => typeof dim === "number")) return ints(dims);
    return dims.length === 1 ? extent(dims[0] ?? 1) : op("Concat", dims.map(extent), { axis: 0 });
  }

  function reshape(x: Value, dims: readonly Dim[]): Value {
    if (x.shape.length === dims.length && dims.every((dim, axis) => dim === x.shape[axis])) return x;
    const open = dims.filter((dim) => typeof dim !== "number");
    const target = open.length < 2 ? ints(dims.map((dim) => (typeof dim === "number" ? dim : -1))) : shape(dims);
    return op("Reshape", [x, target]);
  }

  function transpose(x: Value, order: readonly number[]): Value {
    return order.every((axis, index) => axis === index) ? x : op("Transpose", [x], { perm: [...order] });
  }

  function sum(x: Value, axes: readonly number[], keep = false): Value {
    return axes.length === 0 ? x : op("ReduceSum", [x, ints([...axes])], { keepdims: keep ? 1 : 0 });
  }

  const gather = (x: Value, indices: ArrayLike<number>, axis = 0): Value => op("Gather", [x, ints(indices)], { axis });

  /** [start, end) of each axis with the step. */
  function slice(x: Value, cuts: readonly { axis: number; start: Dim; end: Dim; step?: number }[]): Value {
    if (cuts.length === 0) return x;
    return op("Slice", [
      x,
      shape(cuts.map((cut) => cut.start)),
      shape(cuts.map((cut) => cut.end)),
      ints(cuts.map((cut) => cut.axis)),
      ints(cuts.map((cut) => cut.step ?? 1)),
    ]);
  }

  /**
   * Zeros (or `fill`) before and after along axes; amounts are extents, or int64 values of one entry. All axes are written out: onnxruntime
   * reorders the amounts wrongly when it moves a Transpose through a Pad that names its axes.
   */
  function pad(
    x: Value,
    around: readonly { axis: number; before: Dim | Value; after: Dim | Value }[],
    fill = 0,
  ): Value {
    const amount = (axis: number, side: "before" | "after") => around.find((a) => a.axis === axis)?.[side] ?? 0;
    const sides = (["before", "after"] as const).flatMap((side) => x.shape.map((_, axis) => amount(axis, side)));
    if (sides.every((side) => side === 0)) return x;
    const fixed = sides.every((side) => typeof side === "number");
    const amounts = fixed
      ? ints(sides)
      : concat(
          sides.map((side) => (typeof side === "object" ? side : extent(side))),
          0,
        );
    return op("Pad", [x, amounts, scalar(fill, x)]);
  }

  const concat = (parts: readonly Value[], axis: number): Value => {
    const [only] = parts;
    return only && parts.length === 1 ? only : op("Concat", parts, { axis });
  };

  /** Values of one entry or shape `dims`, filled. */
  function filled(entry: number, dims: readonly Dim[], like: Value): Value {
    return op("Expand", [scalar(entry, like), shape(dims)]);
  }

  const builder = {
    batch,
    inputs,
    nodes,
    initializers,
    value,
    append,
    addInput,
    addModel,
    op,
    ops,
    contents,
    constant,
    ints,
    scalar,
    extent,
    shape,
    reshape,
    transpose,
    sum,
    gather,
    slice,
    pad,
    concat,
    filled,
    add: (a: Value, b: Value) => op("Add", [a, b]),
    sub: (a: Value, b: Value) => op("Sub", [a, b]),
    mul: (a: Value, b: Value) => op("Mul", [a, b]),
    div: (a: Value, b: Value) => op("Div", [a, b]),
    neg: (a: Value) => op("Neg", [a]),
    /** a · c for a number c. */
    scaled: (a: Value, factor: number) => (factor === 1 ? a : op("Mul", [a, scalar(factor, a)])),
    /** a + c for a number c. */
    shifted: (a: Value, by: number) => (by === 0 ? a : op("Add", [a, scalar(by, a)])),
    cast: (a: Value, type: number) => (a.type === type ? a : op("Cast", [a], { to: type })),
    where: (condition: Value, a: Value, b: Value) => op("Where", [condition, a, b]),
    /** Names given from now on start with `name/`. */
    within: (name: string) => {
      scope = name ? `${name}/` : "";
    },
  };
  return builder;
}
