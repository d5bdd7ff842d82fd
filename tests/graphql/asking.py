"""A client of GraphQL that hides nothing: what was sent, and what came back as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

PATH = "/graphql"
RESPONSE = "application/graphql-response+json"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Graph:
    """Asks over HTTP. `ask` expects an answer without errors, `refusal` one error and gives its extensions."""

    api: httpx.Client

    def post(self, body: bytes | str | dict[str, Any], **headers: str) -> httpx.Response:
        content = json.dumps(body) if isinstance(body, dict) else body
        return self.api.post(PATH, content=content, headers={**JSON, **headers})

    def reply(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = self.post({"query": query, "variables": variables})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        document = self.reply(query, **variables)
        assert "errors" not in document, document["errors"]
        data: dict[str, Any] = document["data"]
        return data

    def error(self, query: str, **variables: Any) -> dict[str, Any]:
        (error,) = self.reply(query, **variables)["errors"]
        assert isinstance(error, dict)
        return error

    def refusal(self, query: str, **variables: Any) -> dict[str, Any]:
        extensions: dict[str, Any] = self.error(query, **variables)["extensions"]
        return extensions
