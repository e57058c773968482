/** The Worker in workerd, with its page and a bucket of its own that holds synthetic indexes. */
import { createTestHarness } from "wrangler";
import { type Synthetic, syntheticObjects } from "../synthetic.ts";

export interface Served {
  /** The page's address. */
  url: string;
  put(key: string, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export async function serveSynthetic(indexes: readonly Synthetic[]): Promise<Served> {
  const harness = createTestHarness({ workers: [{ configPath: "wrangler.toml" }] });
  const { url } = await harness.listen();
  const { BUCKET } = await harness
    .getWorker<{ BUCKET: { put(key: string, bytes: Uint8Array): Promise<unknown> } }>()
    .getEnv();
  for (const index of indexes) {
    for (const [key, bytes] of await syntheticObjects(index)) await BUCKET.put(key, new Uint8Array(bytes));
  }
  return {
    url: url.href,
    async put(key, bytes) {
      await BUCKET.put(key, bytes);
    },
    close: () => harness.close(),
  };
}
