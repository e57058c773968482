/**
 * One seed for every property, so that a run on any machine tries the same cases. `PROPERTY_SEED=random npx vitest run …`
 * looks for new ones; a number repeats a run that failed.
 */
import fc from "fast-check";
import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    /** Undefined for a fresh seed in every run. */
    propertySeed: number | undefined;
  }
}

const seed = inject("propertySeed");
if (seed !== undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed });
