// The audits of GraphQL over HTTP by the npm package graphql-http: `node audit.mjs URL TOKEN`, results as JSON lines.
import { createRequire } from "node:module";

const require = createRequire(new URL("../npm/package.json", import.meta.url));
const { serverAudits } = require("graphql-http");

const [url, token] = process.argv.slice(2);

const fetchFn = (address, options = {}) => {
  const headers = new Headers(options.headers);
  headers.set("authorization", `Bearer ${token}`);
  return fetch(address, { ...options, headers });
};

for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  console.log(JSON.stringify({ id: audit.id, name: audit.name, status: result.status, reason: result.reason }));
}
