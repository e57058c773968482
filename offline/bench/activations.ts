/**
 * What collecting has to do anyway: the backward pass to activations. It is collecting's own graph with all that gathers
 * coordinates taken out, and in its place one sum over each cotangent that was read, so that the runtime still computes it.
 */
import { ancestors } from "../autodiff/walk.ts";
import type { Graph, Node } from "../onnx/graph.ts";
import { readModel, writeModel } from "../onnx/model.ts";

/** Nodes that gather coordinates are named after the parameter that they belong to. */
export const gathers = (name: string): boolean => name.startsWith("gradient of ");

/** What onnxruntime changes layouts with. */
const TURNS = new Set(["ReorderInput", "ReorderOutput", "Transpose"]);

/** Nodes of onnxruntime's own version of a graph, at `path`, that change the layout of what only gathering reads, under other names. */
export async function turnedForGathering(path: string): Promise<Set<string>> {
  const { nodes } = await readModel(path);
  const others = new Set(nodes.filter((node) => !gathers(node.name)).flatMap((node) => node.inputs));
  const turns = nodes.filter(
    (node) => TURNS.has(node.op) && !gathers(node.name) && !node.outputs.some((name) => others.has(name)),
  );
  return new Set(turns.map((node) => node.name));
}

/** The compiled graph at `path`, its output `gradient` replaced by `cotangents`, one number. */
export async function backwardToActivations(path: string): Promise<Uint8Array> {
  const graph = await readModel(path);
  const forward = ancestors(graph.nodes, ["loss"]);
  const gathering = new Set(graph.nodes.filter((node) => gathers(node.name)));
  const made = new Set([...gathering].flatMap((node) => node.outputs));
  const computed = new Set(graph.nodes.flatMap((node) => node.outputs));
  const summed = new Set<string>();
  const nodes: Node[] = [];
  const plain = { domain: "", attributes: { keepdims: 0 } };
  for (const node of graph.nodes) {
    if (!gathering.has(node)) {
      if (!node.inputs.some((name) => made.has(name))) nodes.push(node);
      continue;
    }
    // Where the gathering would be, so that a cotangent is freed as early.
    for (const name of node.inputs) {
      if (!computed.has(name) || made.has(name) || forward.has(name) || summed.has(name)) continue;
      summed.add(name);
      nodes.push({ ...plain, name: `sum of ${name}`, op: "ReduceSum", inputs: [name], outputs: [`${name}/sum`] });
    }
  }
  const inputs = [...summed].map((name) => `${name}/sum`);
  nodes.push({ name: "sums", op: "Sum", domain: "", inputs, outputs: ["cotangents"], attributes: {} });
  const needed = ancestors(nodes, ["loss", "cotangents"]);
  const result: Graph = {
    ...graph,
    nodes: nodes.filter((node) => node.outputs.some((name) => needed.has(name))),
    initializers: new Map([...graph.initializers].filter(([name]) => needed.has(name))),
    outputs: [...graph.outputs.filter(({ name }) => name === "loss"), { name: "cotangents", type: 1, shape: [] }],
  };
  return writeModel(result);
}
