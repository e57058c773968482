/** The Worker. Files of the page are served before it is asked (wrangler.toml, assets). */
import { api } from "./api.ts";
import type { Bindings } from "./environment.ts";
import { workerKernel } from "./kernel.ts";

const kernel = workerKernel();

export default {
  fetch: (request, settings, context) => api.fetch(request, { ...settings, kernel }, context),
} satisfies ExportedHandler<Bindings>;
