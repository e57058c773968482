/** A worker thread that turns pixels into PNG files: encoding 70,000 pictures takes longer than indexing their gradients. */
import { parentPort } from "node:worker_threads";
import { encode } from "fast-png";
import type { Image } from "../dataset/dataset.ts";

parentPort?.on("message", ({ images }: { images: Image[] }) => {
  // `slice` leaves behind the encoder's far larger buffer.
  const files = images.map(({ width, height, channels, pixels }) =>
    encode({ width, height, data: pixels, channels, depth: 8 }).slice(),
  );
  parentPort?.postMessage({ files });
});
