/** Losses: from a model's output and the target to one loss per example, and its gradient with respect to the output. */
import type { Builder } from "../onnx/builder.ts";
import { type Dim, productOf } from "../onnx/dims.ts";
import { ELEMENT, type Port, type Value } from "../onnx/graph.ts";
import { tensorTypeName } from "../onnx/model.ts";

export type LossKind = "cross-entropy" | "next-token" | "binary-cross-entropy" | "squared-error" | "margin" | "output";

export interface Loss {
  /** [B]. */
  loss: Value;
  /** ∂ Σ_b loss_b / ∂ output. */
  cotangent: Value;
}

/** What `target` has to be for a loss of this output; null for an output that is the loss. Throws if the output does not fit. */
export function targetOf(kind: LossKind, output: Value): Port | null {
  const rank = output.shape.length;
  const misfit = (expected: string) =>
    new Error(
      `loss ${kind}: expected output ${output.name} to be ${expected}, got shape [${output.shape}]; choose another loss or output`,
    );
  if (output.batch && (output.batch.axis !== 0 || output.batch.inner !== 1))
    throw misfit("one row an example, examples first");
  switch (kind) {
    case "cross-entropy":
    case "margin":
      // Over one class both are constant: a lone score is binary cross-entropy's.
      if (rank !== 2 || output.shape[1] === 1) throw misfit("[batch, classes] of 2 classes or more");
      return { name: "target", type: ELEMENT.int64, shape: output.shape.slice(0, 1) };
    case "next-token":
      if (rank !== 3) throw misfit("[batch, positions, vocabulary]");
      return { name: "target", type: ELEMENT.int64, shape: output.shape.slice(0, 2) };
    case "binary-cross-entropy":
    case "squared-error":
      return { name: "target", type: ELEMENT.float32, shape: output.shape };
    case "output":
      if (output.shape.slice(1).some((dim) => dim !== 1)) throw misfit("[batch], the loss of each example");
      return null;
  }
}

/**
 * The graph input that the target is fed to: a new one, or the model's own of that name.
 * Throws if the model has an input of that name that is something else.
 */
export function targetInput(b: Builder, kind: LossKind, wanted: Port): Port {
  const own = b.inputs.find((input) => input.name === wanted.name);
  if (!own) {
    b.addInput(wanted);
    return wanted;
  }
  if (own.type === wanted.type && own.shape.join() === wanted.shape.join()) return own;
  const said = ({ type, shape }: Port) => `${tensorTypeName(type)} [${shape.join(", ")}]`;
  throw new Error(
    `loss ${kind}: expected input ${own.name} of the model to be the loss's target, ${said(wanted)}, got ${said(own)}; rename the input in the export or choose another loss`,
  );
}

/** `reduction` says whether next-token sums or averages over an example's counted positions. */
export function lossOf(
  b: Builder,
  kind: LossKind,
  output: Value,
  target: Value | null,
  reduction: "mean" | "sum",
): Loss {
  if (kind === "output" || !target) {
    return { loss: b.reshape(output, [b.batch]), cotangent: b.filled(1, output.shape, output) };
  }
  switch (kind) {
    case "cross-entropy":
      return crossEntropy(b, output, target);
    case "margin":
      return margin(b, output, target);
    case "next-token":
      return nextToken(b, output, target, reduction);
    case "binary-cross-entropy": {
      // softplus(y) − y·t, and σ(y) − t
      const each = b.sub(b.op("Softplus", [output]), b.mul(output, target));
      return averaged(b, each, b.sub(b.op("Sigmoid", [output]), target));
    }
    case "squared-error": {
      const difference = b.sub(output, target);
      return averaged(b, b.mul(difference, difference), b.scaled(difference, 2));
    }
  }
}

/** The mean over each example's entries. */
function averaged(b: Builder, each: Value, slope: Value): Loss {
  const axes = each.shape.flatMap((_, axis) => (axis === 0 ? [] : [axis]));
  const count = productOf(each.shape.slice(1));
  const divide = (v: Value) =>
    typeof count === "number" ? b.scaled(v, 1 / count) : b.div(v, b.cast(b.extent(count), v.type));
  return { loss: b.reshape(divide(b.sum(each, axes)), [b.batch]), cotangent: divide(slope) };
}

/** 1 where the class is the target: [B, C]. */
const oneHot = (b: Builder, target: Value, classes: Dim, like: Value): Value =>
  b.op("OneHot", [
    target,
    b.shape([classes]),
    b.concat([b.reshape(b.scalar(0, like), [1]), b.reshape(b.scalar(1, like), [1])], 0),
  ]);

/** −log p_t, and p − onehot(t). */
function crossEntropy(b: Builder, logits: Value, target: Value): Loss {
  const logp = b.op("LogSoftmax", [logits], { axis: -1 });
  const picked = b.op("GatherElements", [logp, b.reshape(target, [b.batch, 1])], { axis: 1 });
  const hot = oneHot(b, target, logits.shape[1] ?? 1, logits);
  return { loss: b.neg(b.reshape(picked, [b.batch])), cotangent: b.sub(b.op("Exp", [logp]), hot) };
}

/** −(y_t − log Σ_{c≠t} e^{y_c}), the negated margin of the target over the other classes; softmax over the others − onehot(t). */
function margin(b: Builder, logits: Value, target: Value): Loss {
  const hot = oneHot(b, target, logits.shape[1] ?? 1, logits);
  const others = b.sub(logits, b.scaled(hot, 1e9));
  const rest = b.op("ReduceLogSumExp", [others, b.ints([1])], { keepdims: 0 });
  const own = b.sum(b.mul(logits, hot), [1]);
  return { loss: b.sub(rest, own), cotangent: b.sub(b.op("Softmax", [others], { axis: -1 }), hot) };
}

/** Position t's logits against label t; negative labels (padding, prompts) are not counted. */
function nextToken(b: Builder, logits: Value, target: Value, reduction: "mean" | "sum"): Loss {
  const [batch = b.batch, length = 1] = logits.shape;
  const zero = b.constant(ELEMENT.int64, [], [0]);
  const counted = b.op("GreaterOrEqual", [target, zero]);
  const label = b.reshape(b.where(counted, target, zero), [batch, length, 1]);
  const ones = b.cast(counted, logits.type);
  const total = b.op("Max", [b.sum(ones, [1], true), b.scalar(1, logits)]);
  const weight = reduction === "sum" ? ones : b.div(ones, total);
  const column = b.reshape(weight, [batch, length, 1]);
  const logp = b.op("LogSoftmax", [logits], { axis: -1 });
  const picked = b.op("GatherElements", [logp, label], { axis: 2 });
  const loss = b.neg(b.reshape(b.sum(b.mul(picked, column), [1, 2]), [b.batch]));
  const share = b.mul(b.op("Exp", [logp]), column);
  const cotangent = b.op("ScatterElements", [share, label, b.neg(column)], { axis: 2, reduction: "add" });
  return { loss, cotangent };
}
