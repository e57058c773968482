/** Before the tests inside workerd: builds the synthetic indexes and hands them over, each object as base64 under its key. */
import type { TestProject } from "vitest/node";
import { syntheticObjects } from "./synthetic.ts";

declare module "vitest" {
  interface ProvidedContext {
    published: Record<"digits" | "newer" | "mixed" | "words", Record<string, string>>;
  }
}

export default async function setup({ provide }: TestProject): Promise<void> {
  const encoded = async (name: string, seed: number, images: boolean, mixed = false) => {
    const objects = await syntheticObjects({ name, seed, n: 500, queries: 20, images, mixed });
    return Object.fromEntries([...objects].map(([key, bytes]) => [key, Buffer.from(bytes).toString("base64")]));
  };
  provide("published", {
    digits: await encoded("digits", 1, true),
    newer: await encoded("digits", 2, true),
    mixed: await encoded("digits", 4, true, true),
    words: await encoded("words", 3, false),
  });
}
