/** A graph input or output as onnxruntime sees it. */
export interface TensorSpec {
  name: string;
  /** onnxruntime's name of the element type: "float32", "int64", …. */
  type: string;
  /** A number for a fixed extent, a name for a free one. */
  shape: (number | string)[];
}
