/** Digit classifiers: input `image` [batch, 1, 28, 28], output `logits` [batch, 10]. */
import { ELEMENT, type Port, type Value } from "../../onnx/graph.ts";
import { convolution, type Draft, dense, draft, finished } from "./model.ts";

const image: Port = { name: "image", type: ELEMENT.float32, shape: ["batch", 1, 28, 28] };
const relu = ({ b }: Draft, x: Value) => b.op("Relu", [x]);
const halved = ({ b }: Draft, x: Value) => b.op("MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });

/** 784 → hidden → 10. */
export function perceptron(hidden: number, seed: number | string): Uint8Array {
  const model = draft([image], seed);
  const flat = model.b.reshape(model.b.value("image"), ["batch", 784]);
  return finished(model, dense(model, relu(model, dense(model, flat, "fc1", 784, hidden)), "fc2", hidden, 10));
}

/** Two convolutions of 8 and 16 channels, each halved, then 784 → 64 → 10: 52,138 parameters, as fixtures/mnist-cnn. */
export function convolutional(seed: number | string): Uint8Array {
  const model = draft([image], seed);
  let x = halved(model, relu(model, convolution(model, model.b.value("image"), "conv1", 1, 8)));
  x = halved(model, relu(model, convolution(model, x, "conv2", 8, 16)));
  const flat = model.b.reshape(x, ["batch", 784]);
  return finished(model, dense(model, relu(model, dense(model, flat, "fc1", 784, 64)), "fc2", 64, 10));
}

/**
 * Eight convolutions with two residual blocks and a dense layer, after ResNet-9, a quarter as wide and for one channel. Without
 * normalisation, since examples must not mix: each block's sum is halved instead.
 */
export function residual(seed: number | string): Uint8Array {
  const model = draft([image], seed);
  const { b } = model;
  const step = (x: Value, name: string, from: number, to: number) => relu(model, convolution(model, x, name, from, to));
  const block = (x: Value, name: string, width: number) =>
    b.scaled(b.add(x, step(step(x, `${name}.0`, width, width), `${name}.1`, width, width)), 0.5);
  let x = halved(model, step(b.value("image"), "prep", 1, 8));
  x = block(step(x, "layer1", 8, 16), "residual1", 16);
  x = halved(model, step(x, "layer2", 16, 24));
  x = block(step(x, "layer3", 24, 32), "residual3", 32);
  const pooled = b.op("MaxPool", [x], { kernel_shape: [7, 7], strides: [7, 7] });
  return finished(model, dense(model, b.reshape(pooled, ["batch", 32]), "head", 32, 10));
}
