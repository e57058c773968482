/** Where the examples lie in a value, and whether a node mixes them. */
import { mentions } from "./dims.ts";
import type { Node, Value } from "./graph.ts";
import type { Inferred } from "./infer/context.ts";

/** Of what a node gives, from its operands. `batch` is the symbol of the number of examples. */
export function whereExamples(
  node: Node,
  given: Inferred,
  all: readonly Value[],
  batch: string,
): Pick<Value, "batch" | "mixed"> {
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
