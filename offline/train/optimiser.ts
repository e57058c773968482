/** Optimiser steps as nodes of the training graph, as PyTorch defines them (torch.optim.SGD, torch.optim.AdamW). */
import { named } from "../compile/compile.ts";
import type { Builder } from "../onnx/builder.ts";
import { ELEMENT, type Value } from "../onnx/graph.ts";

export type Optimiser =
  | { kind: "sgd"; momentum: number; weightDecay: number }
  | { kind: "adamw"; beta1: number; beta2: number; epsilon: number; weightDecay: number };

export const ADAMW: Optimiser = { kind: "adamw", beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
export const SGD: Optimiser = { kind: "sgd", momentum: 0.9, weightDecay: 0 };

export interface Update {
  /** The state beside the parameters: float32 inputs of the graph, zero at the start. */
  moments: { name: string; shape: number[] }[];
  /** The updated parameters and moments, under the names that `next` gives. */
  outputs: Value[];
  next(name: string): string;
  /** The scalar inputs of a step, which is the first, second, … */
  scalars(learningRate: number, step: number): Record<string, number>;
}

/** Adds the step to the graph. `gradients` by parameter name. */
export function updateOf(b: Builder, optimiser: Optimiser, gradients: ReadonlyMap<string, Value>): Update {
  const input = (name: string, shape: number[]) => b.addInput({ name, type: ELEMENT.float32, shape });
  const moments: Update["moments"] = [];
  const outputs: Value[] = [];
  const next = (name: string) => `next ${name}`;
  const moment = (kind: string, parameter: string, shape: number[]) => {
    const name = `${kind} ${parameter}`;
    moments.push({ name, shape });
    return input(name, shape);
  };
  const give = (value: Value, of: string) => outputs.push(named(b, value, next(of)));
  const rate = input("learning rate", []);

  if (optimiser.kind === "sgd") {
    // v ← μv + g + decay·w; w ← w − rate·v. The first v is g itself, as μ·0 + g.
    for (const [name, gradient] of gradients) {
      const w = b.value(name);
      const v = moment("momentum", name, w.shape.map(Number));
      const decayed = optimiser.weightDecay === 0 ? gradient : b.add(gradient, b.scaled(w, optimiser.weightDecay));
      const moved = b.add(b.scaled(v, optimiser.momentum), decayed);
      give(b.sub(w, b.mul(rate, moved)), name);
      give(moved, v.name);
    }
    return { moments, outputs, next, scalars: (learningRate) => ({ "learning rate": learningRate }) };
  }
  const { beta1, beta2, epsilon, weightDecay } = optimiser;
  // w ← w(1 − rate·decay) − rate·m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ).
  const first = input("1/(1 − β₁ᵗ)", []);
  const second = input("1/√(1 − β₂ᵗ)", []);
  const decay = b.sub(b.scalar(1, rate), b.scaled(rate, weightDecay));
  const corrected = b.mul(rate, first);
  for (const [name, gradient] of gradients) {
    const w = b.value(name);
    const shape = w.shape.map(Number);
    const m = moment("mean", name, shape);
    const v = moment("square", name, shape);
    const mean = b.add(b.scaled(m, beta1), b.scaled(gradient, 1 - beta1));
    const square = b.add(b.scaled(v, beta2), b.scaled(b.mul(gradient, gradient), 1 - beta2));
    const root = b.shifted(b.mul(b.op("Sqrt", [square]), second), epsilon);
    give(b.sub(b.mul(w, decay), b.div(b.mul(corrected, mean), root)), name);
    give(mean, m.name);
    give(square, v.name);
  }
  return {
    moments,
    outputs,
    next,
    scalars: (learningRate, step) => ({
      "learning rate": learningRate,
      "1/(1 − β₁ᵗ)": 1 / (1 - beta1 ** step),
      "1/√(1 − β₂ᵗ)": 1 / Math.sqrt(1 - beta2 ** step),
    }),
  };
}

export type Schedule = "constant" | "linear" | "cosine";

/** The share of the peak learning rate at step 0 … steps − 1: a linear rise over `warmup` of the steps, then the fall to 0. */
export function rateAt(schedule: Schedule, step: number, steps: number, warmup: number): number {
  const rise = Math.round(warmup * steps);
  if (step < rise) return (step + 1) / (rise + 1);
  const done = (step - rise) / Math.max(1, steps - rise);
  if (schedule === "linear") return 1 - done;
  return schedule === "cosine" ? (1 + Math.cos(Math.PI * done)) / 2 : 1;
}
