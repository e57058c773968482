/** The Worker. Files of the page are served before it is asked (wrangler.toml, assets). */
import { api } from "./api.ts";

export default { fetch: api.fetch };
