/**
 * Recurrent layers unrolled: each time step becomes products and elementwise operators, so that their gradients follow from those.
 * The input's products with W are taken for all steps at once.
 */

import { integer, type Node, text, type Value, where } from "./graph.ts";
import type { Operators } from "./operators.ts";

/** One direction of a layer: gates from the input at a step (with W's bias), and the state before; gives the state after. */
interface Cell {
  gates: number;
  /** Whether the bias of R may be added to that of W beforehand. */
  addsBiases: boolean;
  /** A state is h, and of an LSTM also c; null before the first step, where it is zero. */
  step(b: Operators, input: Value, state: (Value | null)[], direction: Direction): Value[];
}

interface Direction {
  hidden: number;
  /** R as [H, gates·H], and its bias [gates·H], if not added already. */
  recurrent: Value;
  bias: Value | null;
  /** Activations, in ONNX's order. */
  functions: string[];
  linearBeforeReset: boolean;
}

const parts = (b: Operators, x: Value, count: number, hidden: number): Value[] =>
  b.ops("Split", [x, b.ints(Array.from({ length: count }, () => hidden))], count, { axis: x.shape.length - 1 });

const added = (b: Operators, x: Value, y: Value | null): Value => (y ? b.add(x, y) : x);
const recurred = (b: Operators, h: Value | null | undefined, r: Value): Value | null =>
  h ? b.op("MatMul", [h, r]) : null;

/** i, o, f = σ(…); c' = f ⊙ c + i ⊙ tanh(…); h' = o ⊙ tanh(c'). */
const lstm: Cell = {
  gates: 4,
  addsBiases: true,
  step: (b, input, [h, c], { hidden, recurrent, functions: [f = "", g = "", k = ""] }) => {
    const [i, o, forget, fresh] = parts(b, added(b, input, recurred(b, h, recurrent)), 4, hidden);
    if (!i || !o || !forget || !fresh) return [];
    const taken = b.mul(b.op(f, [i]), b.op(g, [fresh]));
    const cell = c ? b.add(b.mul(b.op(f, [forget]), c), taken) : taken;
    return [b.mul(b.op(f, [o]), b.op(k, [cell])), cell];
  },
};

/** z, r = σ(…); h' = (1 − z) ⊙ n + z ⊙ h with n = tanh(x·W + r ⊙ (h·R + b)), or with r ⊙ h before the product with R. */
const gru: Cell = {
  gates: 3,
  addsBiases: false,
  step: (b, input, [h], { hidden, recurrent, bias, functions: [f = "", g = ""], linearBeforeReset }) => {
    const [xz, xr, xn] = parts(b, input, 3, hidden);
    const [rz, rr, rn] = parts(b, recurrent, 3, hidden);
    const [bz, br, bn] = bias ? parts(b, bias, 3, hidden) : [null, null, null];
    if (!xz || !xr || !xn || !rz || !rr || !rn) return [];
    const seen = (r: Value, rows: Value | null | undefined, own: Value | null | undefined) => {
      const product = recurred(b, rows, r);
      return product && own ? b.add(product, own) : (product ?? own ?? null);
    };
    const z = b.op(f, [added(b, xz, seen(rz, h, bz))]);
    const reset = b.op(f, [added(b, xr, seen(rr, h, br))]);
    const after = linearBeforeReset ? seen(rn, h, bn) : null;
    const before = linearBeforeReset ? null : seen(rn, h ? b.mul(reset, h) : null, bn);
    const fresh = b.op(g, [added(b, after ? b.add(xn, b.mul(reset, after)) : xn, before)]);
    const kept = b.sub(fresh, b.mul(z, fresh));
    return [h ? b.add(kept, b.mul(z, h)) : kept];
  },
};

/** h' = tanh(x·W + h·R + b). */
const rnn: Cell = {
  gates: 1,
  addsBiases: true,
  step: (b, input, [h], { recurrent, functions: [f = ""] }) => [b.op(f, [added(b, input, recurred(b, h, recurrent))])],
};

const FUNCTIONS: Record<string, string[]> = {
  LSTM: ["Sigmoid", "Tanh", "Tanh"],
  GRU: ["Sigmoid", "Tanh"],
  RNN: ["Tanh"],
};

/** The activations of one direction. Throws on one that has parameters of its own. */
function functionsOf(node: Node, direction: number): string[] {
  const usual = FUNCTIONS[node.op] ?? [];
  const given = node.attributes.activations;
  if (given === undefined) return usual;
  const utf8 = new TextDecoder();
  const names =
    typeof given === "object" && "other" in given ? (given.other.strings ?? []).map((s) => utf8.decode(s)) : [];
  const own = names.slice(direction * usual.length, (direction + 1) * usual.length);
  if (own.length === usual.length && own.every((name) => /^(Sigmoid|Tanh|Relu|Softsign|Softplus)$/.test(name)))
    return own;
  throw new Error(
    `${where(node)}: expected activations without parameters, got ${names.join(", ")}; use Sigmoid, Tanh or Relu`,
  );
}

/** [1, …] at an index of the first axis, without that axis. */
const at = (b: Operators, x: Value, index: number): Value => {
  const one = x.shape[0] === 1 ? x : b.slice(x, [{ axis: 0, start: index, end: index + 1 }]);
  return b.reshape(one, x.shape.slice(1));
};

function refuse(node: Node, expected: string, advice: string): never {
  throw new Error(`${where(node)}: expected ${expected}; ${advice}`);
}

/** Y [T, directions, B, H], then the last h [directions, B, H], and of an LSTM the last c. */
function unrolled(cell: Cell, states: number) {
  return (b: Operators, node: Node): Value[] => {
    const optional = (index: number) => (node.inputs[index] ? b.value(node.inputs[index]) : null);
    const input = (index: number) =>
      optional(index) ?? refuse(node, `an input at position ${index}, got none`, "export the model again");
    if (optional(4)) {
      refuse(node, "sequences of one length, got their lengths as an input", "export without pack_padded_sequence");
    }
    if (node.attributes.clip !== undefined || integer(node, "input_forget", 0) || optional(7)) {
      refuse(node, "a plain cell, got clipping, coupled gates or peepholes", "export a layer as torch.nn makes it");
    }
    if (integer(node, "layout", 0)) refuse(node, "time on the first axis, got layout 1", "export with layout 0");
    const [x, weights, recurrent, biases] = [input(0), input(1), input(2), optional(3)];
    const [time, batch = 1] = x.shape;
    const directions = Number(weights.shape[0]);
    const hidden = Number(weights.shape[1]) / cell.gates;
    if (recurrent.shape[2] !== hidden) {
      refuse(
        node,
        `a state of ${hidden} entries, got a projection of it to ${recurrent.shape[2]}`,
        "train without proj_size",
      );
    }
    if (typeof time !== "number") {
      refuse(
        node,
        `a fixed number of time steps, to unroll them, got ${time}`,
        "export with a fixed sequence length: only the batch axis dynamic",
      );
    }
    const backwards = (direction: number) => direction === 1 || text(node, "direction", "forward") === "reverse";

    const perDirection = Array.from({ length: directions }, (_, direction) => {
      const size = cell.gates * hidden;
      const both = biases && at(b, biases, direction);
      const half = (start: number) => both && b.slice(both, [{ axis: 0, start, end: start + size }]);
      const [own, other] = [half(0), half(size)];
      const bias = own && other && cell.addsBiases ? b.add(own, other) : own;
      const projected = b.op("MatMul", [x, b.transpose(at(b, weights, direction), [1, 0])]);
      const inputs = b.ops("Split", [added(b, projected, bias), b.ints(new Array<number>(time).fill(1))], time, {
        axis: 0,
      });
      const settings: Direction = {
        hidden,
        recurrent: b.transpose(at(b, recurrent, direction), [1, 0]),
        bias: cell.addsBiases ? null : other,
        functions: functionsOf(node, direction),
        linearBeforeReset: integer(node, "linear_before_reset", 0) === 1,
      };
      let state: (Value | null)[] = Array.from({ length: states }, (_, index) => {
        const initial = optional(5 + index);
        if (initial && initial.shape[2] !== hidden) {
          refuse(node, `an initial state of ${hidden} entries, got ${initial.shape[2]}`, "train without proj_size");
        }
        return initial && at(b, initial, direction);
      });
      const outputs: Value[] = [];
      for (let step = 0; step < time; step++) {
        const now = backwards(direction) ? time - 1 - step : step;
        const seen = inputs[now] ?? x;
        state = cell.step(b, b.reshape(seen, [batch, size]), state, settings);
        outputs[now] = b.reshape(state[0] ?? x, [1, 1, batch, hidden]);
      }
      return { all: b.concat(outputs, 0), state };
    });
    const last = Array.from({ length: states }, (_, index) =>
      b.concat(
        perDirection.map(({ state }) => b.reshape(state[index] ?? x, [1, batch, hidden])),
        0,
      ),
    );
    return [
      b.concat(
        perDirection.map(({ all }) => all),
        1,
      ),
      ...last,
    ];
  };
}

export const RECURRENT = { LSTM: unrolled(lstm, 2), GRU: unrolled(gru, 1), RNN: unrolled(rnn, 1) };
