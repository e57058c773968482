#!/usr/bin/env node
/** The command line: `influence <step> CONFIG`. Results on standard output, progress and errors on standard error. */
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { type Bucket, openLocalBucket, openS3Bucket, s3SettingsFromEnvironment } from "./bucket.ts";
import { readConfig } from "./config.ts";
import { buildToIndex, collectStep, compileStep, fitStep, publishStep, type Run } from "./pipeline.ts";
import { type Output, progressTo } from "./progress.ts";
import { queryFolder, type Row } from "./query.ts";
import { holdingRun } from "./step.ts";
import { verify } from "./verify.ts";

interface Common {
  out?: string;
  json?: boolean;
  replace?: boolean;
}

const positiveInteger = (text: string) => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError(`expected a positive integer, got ${text}.`);
  return value;
};

function outputOf(options: Common): Output {
  if (options.json) return "json";
  return process.stderr.isTTY ? "terminal" : "lines";
}

function runOf(configPath: string, options: Common): Run {
  const config = readConfig(configPath);
  return {
    config,
    folder: resolve(options.out ?? join("runs", config.name)),
    replace: options.replace ?? false,
    progress: progressTo(outputOf(options)),
  };
}

async function openBucket(to: string): Promise<Bucket> {
  return to === "r2" ? openS3Bucket(s3SettingsFromEnvironment(process.env)) : openLocalBucket("wrangler.toml");
}

const table = (rows: readonly Row[]) =>
  rows.map(({ id, influence, label, was, flipped }) => {
    const mark = flipped ? `  label flipped, was ${was}` : "";
    return `  ${id.padEnd(14)} ${influence.toExponential(4).padStart(12)}  label ${label ?? "–"}${mark}`;
  });

const program = new Command("influence")
  .description("Which training examples made a model say this? Builds, publishes and asks an influence index.")
  .showHelpAfterError("(run with --help for the options)")
  .configureHelp({ sortSubcommands: false });

function step(name: string, description: string, work: (run: Run) => Promise<unknown>): void {
  program
    .command(name)
    .argument("<config>", "the build's configuration, a YAML file")
    .description(description)
    .option("--out <folder>", "the run's folder (default: runs/<name>)")
    .option("--replace", "make gradients anew when their settings changed, rather than refuse")
    .option("--json", "progress as JSON lines on standard error, the result as JSON on standard output")
    .action(async (configPath: string, options: Common) => {
      const run = runOf(configPath, options);
      const result = await holdingRun(run.folder, () => work(run));
      if (options.json) console.log(JSON.stringify(result ?? { folder: run.folder }));
    });
}

const upTo = {
  collect: async (run: Run) => {
    const compiled = await compileStep(run);
    return { compiled, collected: await collectStep(run, compiled) };
  },
  fit: async (run: Run) => {
    const { compiled, collected } = await upTo.collect(run);
    await fitStep(run, compiled, collected);
  },
};

step(
  "compile",
  "differentiate the model and choose the kept coordinates",
  async (run) => void (await compileStep(run)),
);
step(
  "collect",
  "write the compressed gradient of every example (and what must come before)",
  async (run) => void (await upTo.collect(run)),
);
step("fit", "Hessian, damping and inverse of each layer (and what must come before)", upTo.fit);
step("index", "precondition every training vector and write the index (and what must come before)", async (run) => ({
  index: await buildToIndex(run),
}));

for (const [name, description] of [
  ["build", "all steps, and publish the index"],
  ["publish", "upload the index; what is missing is built first"],
] as const) {
  program
    .command(name)
    .argument("<config>", "the build's configuration, a YAML file")
    .description(description)
    .option("--out <folder>", "the run's folder (default: runs/<name>)")
    .option("--replace", "make gradients anew when their settings changed, rather than refuse")
    .addOption(
      new Option("--to <bucket>", "local: what `wrangler dev` serves; r2: Cloudflare")
        .choices(["local", "r2"])
        .default("local"),
    )
    .option("--json", "progress as JSON lines on standard error, the result as JSON on standard output")
    .action(async (configPath: string, options: Common & { to: string }) => {
      const run = runOf(configPath, options);
      await holdingRun(run.folder, async () => {
        const index = await buildToIndex(run);
        const bucket = await openBucket(options.to);
        try {
          await publishStep(run, index, bucket);
        } finally {
          await bucket.close();
        }
        if (options.json) console.log(JSON.stringify({ index }));
      });
    });
}

program
  .command("query")
  .argument("<index>", "an index's folder, for example runs/mnist/index")
  .argument("<id>", "a stored query, for example test-00008")
  .description("the most helpful and most harmful training examples for a stored query")
  .option("-k, --top-k <k>", "how many of each", positiveInteger, 10)
  .option("--json", "the result as JSON")
  .action(async (index: string, id: string, options: { topK: number; json?: boolean }) => {
    const { manifest, answer, helpful, harmful } = await queryFolder(resolve(index), id, options.topK);
    if (options.json) {
      console.log(
        JSON.stringify({
          helpful,
          harmful,
          exact: answer.exact,
          index: { name: manifest.name, version: manifest.version },
        }),
      );
      return;
    }
    console.log(
      [`${manifest.title}, ${id}, ${answer.exact ? "exact" : "approximate"} over ${manifest.n} training examples`].join(
        "\n",
      ),
    );
    console.log(["most helpful (more weight on them lowers the query's loss)", ...table(helpful)].join("\n"));
    console.log(["most harmful (more weight on them raises it)", ...table(harmful)].join("\n"));
  });

program
  .command("verify")
  .argument("<config>", "the build's configuration, a YAML file")
  .description("compare compressed with exact influence on a sample of the training set")
  .option("--examples <n>", "training examples in the sample", positiveInteger, 2000)
  .option("--queries <m>", "queries", positiveInteger, 50)
  .option("--out <folder>", "the run's folder (default: runs/<name>)")
  .option("--json", "the result as JSON")
  .action(async (configPath: string, options: Common & { examples: number; queries: number }) => {
    const report = await verify(runOf(configPath, options), options.examples, options.queries);
    console.log(options.json ? JSON.stringify(report) : report.text);
  });

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`influence: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
