"""GraphQL: over HTTP and WebSocket, by raw requests and by the libraries that people use."""
