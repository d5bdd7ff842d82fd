/** The explorer: GraphiQL over this broker, once somebody has logged in. */

import { Session } from "./session.js";

const WELCOME = `# Try a query, with Ctrl-Enter. Nothing that a query does changes anything.

query Queues {
  queues(limit: 20) {
    items { name paused counts { pending processing failed } rates { published settled } }
    nextCursor
  }
}

mutation Publish {
  publish(queue: "hello", content: { text: "hello", number: 12345678901234567890 }, options: { priority: 5 }) {
    messageId
    duplicate
  }
}

mutation Consume {
  consume(queue: "hello", waitMs: 5000) { messageId content attempt lease }
}

mutation Ack($messageId: ID!, $lease: String) {
  ack(messageId: $messageId, lease: $lease) { status }
}

# Runs until you stop it.
subscription Events {
  events(queue: "hello") { event messageId status attempt at dropped }
}
`;

const { createElement } = globalThis.React;
const login = document.querySelector("#login");
const invitation = document.querySelector("#invitation");
const logout = document.querySelector("#logout");
const refused = document.querySelector("#refused");
const place = document.querySelector("#explorer");
let root = null;
let sockets = null;
let session = new Session();

login.addEventListener("submit", async (event) => {
  event.preventDefault();
  refused.textContent = "";
  const { username, password, key } = Object.fromEntries(new FormData(login));
  try {
    session = new Session();
    if (key) session.use(key);
    else await session.login(username, password);
    show(await session.whoever(), await schema());
  } catch (error) {
    refused.textContent = error.message;
  }
});

logout.addEventListener("submit", async (event) => {
  event.preventDefault();
  sockets?.dispose();
  root?.unmount();
  root = sockets = null;
  logout.hidden = true;
  login.hidden = invitation.hidden = false;
  await session.logout();
});

/** The schema, a file beside this one: asking the broker for it is for admins only. */
async function schema() {
  return (await fetch(new URL("schema.json", import.meta.url))).json();
}

function show({ username, role }, schema) {
  login.reset();
  login.hidden = invitation.hidden = true;
  logout.hidden = false;
  document.querySelector("#who").textContent = `${username} (${role})`;
  sockets = globalThis.graphqlWs.createClient({
    url: `${location.origin.replace(/^http/, "ws")}/graphql`,
    connectionParams: async () => ({ token: await session.token() }),
    retryAttempts: 0,
  });
  root = globalThis.ReactDOM.createRoot(place);
  const options = { fetcher, schema, defaultQuery: WELCOME, isHeadersEditorEnabled: false };
  root.render(createElement(globalThis.GraphiQL, options));
}

/** What GraphiQL calls to execute an operation. */
function fetcher({ query, operationName, variables }, { documentAST } = {}) {
  const operations = documentAST?.definitions.filter((node) => node.kind === "OperationDefinition") ?? [];
  const chosen = operations.find((node) => node.name?.value === operationName) ?? operations[0];
  const asked = { query, operationName, variables };
  return chosen?.operation === "subscription" ? sockets.iterate(asked) : ask(asked);
}

async function ask(asked) {
  const headers = {
    ...(await session.headers()),
    "Content-Type": "application/json",
    Accept: "application/graphql-response+json, application/json;q=0.9",
  };
  const answer = await fetch("/graphql", { method: "POST", headers, body: JSON.stringify(asked) });
  return exact(await answer.text());
}

/** JSON with every number as it was written, where the browser can (Chrome 114, Firefox 135, Safari 18.4). */
function exact(text) {
  return JSON.parse(text, (_, value, context) => {
    const written = context?.source;
    if (typeof value !== "number" || written === undefined || String(value) === written) return value;
    return JSON.rawJSON?.(written) ?? value;
  });
}
