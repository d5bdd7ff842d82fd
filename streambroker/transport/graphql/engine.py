"""Requests in, answers out: read, count, execute."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    get_operation_ast,
    subscribe,
)
from msgspec import UNSET

from streambroker.core.access import Role
from streambroker.core.errors import BrokerError
from streambroker.transport.graphql.documents import Document, Documents, cost
from streambroker.transport.graphql.limits import root_fields
from streambroker.transport.graphql.request import Request
from streambroker.transport.graphql.schema import SCHEMA
from streambroker.transport.graphql.schemas import GraphQLOut
from streambroker.transport.graphql.verbatim import variables
from streambroker.transport.graphql.wire import Envelope, cause_of, shown
from streambroker.transport.http import ClientLeft

log = logging.getLogger(__name__)

NOT_HERE = "subscriptions are served over WebSocket only (graphql-transport-ws), at the same path"


class Refused(Exception):
    """Nothing was executed, for these reasons."""

    def __init__(self, answer: GraphQLOut) -> None:
        super().__init__("refused")
        self.answer = answer


class Engine:
    """Executes requests. A document that is new counts by its length; each root field as the REST call that it is."""

    def __init__(self) -> None:
        self._documents = Documents(SCHEMA)

    async def answer(self, request: Request, given: Envelope) -> GraphQLOut:
        """The answer to a query or mutation. Raises `Refused`, `RateLimited`, `Malformed`, `Invalid`."""
        document, operation, values = await self._prepared(request, given)
        if operation.operation is OperationType.SUBSCRIPTION:
            raise _refused(request, [GraphQLError(NOT_HERE, operation)])
        return await self._executed(request, given, document, values)

    async def stream(self, request: Request, given: Envelope) -> AsyncGenerator[GraphQLOut, None]:
        """The answers to any operation: one, or those of a subscription while it lasts. Raises as `answer`."""
        document, operation, values = await self._prepared(request, given)
        if operation.operation is not OperationType.SUBSCRIPTION:
            yield await self._executed(request, given, document, values)
            return
        found = subscribe(
            SCHEMA, document, context_value=request, variable_values=values, operation_name=given.operation
        )
        source = await found if inspect.isawaitable(found) else found
        if isinstance(source, ExecutionResult):
            raise _refused(request, source.errors or ())
        try:
            async for result in source:
                yield _shown(request, result)
        finally:
            await source.aclose()  # type: ignore[attr-defined]

    async def _prepared(
        self, request: Request, given: Envelope
    ) -> tuple[DocumentNode, OperationDefinitionNode, dict[str, Any]]:
        read = await self._read(request, given.query)
        if read.document is None:
            raise _refused(request, read.errors)
        operation = get_operation_ast(read.document, given.operation)
        if operation is None:
            which = "there is no operation of that name" if given.operation else "say which operation: operationName"
            raise _refused(request, [GraphQLError(which)])
        await request.admit(root_fields(read.document, operation))
        return read.document, operation, variables(SCHEMA, operation, given.variables)

    async def _read(self, request: Request, text: str) -> Document:
        introspect = request.principal.role is Role.ADMIN
        known = self._documents.known(text, introspect)
        if known is None or known.document is None:
            await request.admit([""] * (cost(text) if known is None else 1))
        return known or await self._documents.learn(text, introspect, request.principal.username)

    async def _executed(
        self, request: Request, given: Envelope, document: DocumentNode, values: dict[str, Any]
    ) -> GraphQLOut:
        found = execute(
            SCHEMA,
            document,
            context_value=request,
            variable_values=values,
            operation_name=given.operation,
            hide_suggestions=request.principal.role is not Role.ADMIN,
        )
        answer = _shown(request, await found if inspect.isawaitable(found) else found)
        if answer.data is UNSET:
            raise Refused(answer)
        return answer


def _refused(request: Request, errors: Iterable[GraphQLError]) -> Refused:
    return Refused(GraphQLOut(errors=[shown(error, request.instance) for error in errors]))


def _shown(request: Request, result: ExecutionResult) -> GraphQLOut:
    errors = result.errors or []
    for error in errors:
        fault = cause_of(error)
        if fault is not None and not isinstance(fault, BrokerError | ClientLeft):
            log.error("GraphQL failed", exc_info=fault, extra={"request_id": request.instance.rpartition(":")[2]})
    answer = GraphQLOut(data=result.data)
    if errors:
        answer.errors = [shown(error, request.instance) for error in errors]
    if result.data is None and errors and all(error.path is None for error in errors):
        answer.data = UNSET  # variables that do not fit: nothing was executed
    return answer
