/** What a unit of an experiment measures: the experiments make it, tables and plots read it. */
import * as z from "zod";

export const measurement = z.object({
  /** What was measured: the columns of the table, for example task, compressor, r. */
  of: z.record(z.string(), z.union([z.string(), z.number()])),
  seed: z.number(),
  /** What came out. Null where a figure does not exist. */
  values: z.record(z.string(), z.number().nullable()),
});
export type Measurement = z.infer<typeof measurement>;
