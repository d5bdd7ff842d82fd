// Redoc over one of the broker's descriptions. It is handed over as an object: given an address instead, Redoc would
// offer to send it to services on the Internet.
import { init } from "/apidocs/vendor/redoc.standalone-3.0.1.js";

const place = document.getElementById("reference");
const address = place.dataset.description;
try {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
  init(await answer.json(), { disableTelemetry: true, hideDownloadButtons: true, router: "hash" }, place);
} catch (error) {
  place.textContent = `The description could not be loaded. ${error.message}`;
}
