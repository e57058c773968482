/** onnxruntime sessions for gradient graphs, on the device that was asked for or not at all. */
import { InferenceSession, listSupportedBackends } from "onnxruntime-node";

export const DEVICES = ["cpu", "cuda", "webgpu"] as const;
export type Device = (typeof DEVICES)[number];

const HOW_TO_GET: Record<Device, string> = {
  cpu: "reinstall onnxruntime-node",
  cuda: "install onnxruntime-node on Linux x64 with `npm install --onnxruntime-node-install=cuda12`, and CUDA 12 with cuDNN 9",
  webgpu:
    "install libvulkan1 and a driver for the GPU; without a GPU, Debian's chromium package has a driver in software: VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json",
};

/** A session on the device that was asked for. Throws an Error that says how to get a device that is missing. */
export async function openSession(
  graph: Uint8Array | string,
  device: Device,
  options: InferenceSession.SessionOptions,
): Promise<InferenceSession> {
  const missing = (reason: string) =>
    new Error(`--device ${device}: not available here (${reason}); ${HOW_TO_GET[device]}`);
  const known = listSupportedBackends().map(({ name }) => name);
  if (!known.includes(device)) throw missing(`this onnxruntime-node has ${known.join(", ")}`);
  const chosen = { ...options, executionProviders: [device], logSeverityLevel: 3 } as const;
  try {
    return await (typeof graph === "string"
      ? InferenceSession.create(graph, chosen)
      : InferenceSession.create(graph, chosen));
  } catch (error) {
    if (device === "cpu") throw error;
    throw missing(error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error));
  }
}

/**
 * A session for a gradient graph. On the CPU each operator has one thread, so that results do not depend on how many there
 * are: whole batches run side by side instead. Throws what openSession throws.
 */
export function openGradientSession(graph: Uint8Array | string, device: Device = "cpu"): Promise<InferenceSession> {
  return openSession(graph, device, { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: "sequential" });
}

/** Where float64 products run when gradients run on `device`: WebGPU has no float64. */
export const productDevice = (device: Device): Device => (device === "cuda" ? "cuda" : "cpu");
