import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const wanted = process.env.PROPERTY_SEED ?? "2509";
const provide = { propertySeed: wanted === "random" ? undefined : Number(wanted) };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "node",
          provide,
          setupFiles: ["./test/property-seed.ts"],
          globalSetup: ["./test/temporary-folder.ts"],
          include: ["test/**/*.test.ts"],
          exclude: ["test/edge/**"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          // A page on a loaded machine may take a while; what is polled for is never a matter of time.
          expect: { poll: { timeout: 30_000 } },
        },
      },
      {
        plugins: [cloudflareTest({ wrangler: { configPath: "./wrangler.toml" } })],
        test: {
          name: "workerd",
          provide,
          setupFiles: ["./test/property-seed.ts"],
          include: ["test/edge/**/*.test.ts"],
          globalSetup: ["./test/edge-setup.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
