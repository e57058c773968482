/** What the compiler builds with: a growing graph, its operators, and a model's own nodes brought in. */
import { decompose } from "./decompose.ts";
import { type Graph, type Node, where } from "./graph.ts";
import { growingGraph } from "./growing-graph.ts";
import { conditionOf } from "./known.ts";
import { branchNodes } from "./normalise.ts";
import { type Operators, operatorsOn } from "./operators.ts";

export type Builder = Operators & { addModel(nodes: readonly Node[]): void };

/**
 * A builder over the nodes of `graph` (which it leaves as they are). `batch` is the symbol of the number of examples; shapes of
 * the graph's inputs must use it where their examples lie.
 * Throws on an operator that is not understood.
 */
export function createBuilder(graph: Graph, batch: string): Builder {
  const growing = growingGraph(graph, batch);
  const { append, value, initializers } = growing;

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

  const builder = { ...growing, ...operatorsOn(growing), addModel };
  return builder;
}
