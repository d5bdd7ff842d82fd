// Swagger UI over the broker's own description. A token is kept until the page is left, and nowhere else.
window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "none",
  filter: true,
  operationsSorter: "method",
  persistAuthorization: false,
  // Otherwise it would have the description checked by a service on the Internet.
  validatorUrl: null,
});
