/** Which part of collecting this process makes, from the engine that started it. */
import type { Worker } from "./collect.ts";

/**
 * Slurm arrays name a task and their size; Kubernetes' indexed jobs name only the pod's index, so that `shards` must say how
 * many there are. Without either: all of it.
 */
export function workerFromEnvironment(environment: NodeJS.ProcessEnv, shards: number | undefined): Worker {
  const { SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_MIN, SLURM_ARRAY_TASK_COUNT, JOB_COMPLETION_INDEX } = environment;
  if (SLURM_ARRAY_TASK_ID !== undefined && SLURM_ARRAY_TASK_COUNT !== undefined) {
    const index = Number(SLURM_ARRAY_TASK_ID) - Number(SLURM_ARRAY_TASK_MIN ?? 0);
    const of = Number(SLURM_ARRAY_TASK_COUNT);
    if (index < 0 || index >= of) {
      throw new Error(
        `Slurm array: expected tasks numbered one after another, got task ${SLURM_ARRAY_TASK_ID} of ${of}; use --array=0-${of - 1}`,
      );
    }
    return { index, of };
  }
  if (JOB_COMPLETION_INDEX !== undefined) {
    if (shards === undefined)
      throw new Error(
        "Kubernetes indexed job: expected --shards N, the job's completions, beside JOB_COMPLETION_INDEX",
      );
    const index = Number(JOB_COMPLETION_INDEX);
    if (index >= shards)
      throw new Error(`Kubernetes indexed job: expected an index below --shards ${shards}, got ${index}`);
    return { index, of: shards };
  }
  if (shards !== undefined)
    throw new Error("--shards: expected JOB_COMPLETION_INDEX in the environment; outside Kubernetes use --shard i/N");
  return { index: 0, of: 1 };
}
