"""Documents, parsed and validated; those that came lately are remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    ValidationRule,
    parse,
    specified_rules,
    validate,
)

from streambroker.transport.graphql.limits import MAX_TOKENS, too_much

_REMEMBERED = 256
_LARGEST = 16 * 1024
_MOST_ERRORS = 20
_CHARS_A_REQUEST = 256
_MOST_REQUESTS = 20
"""What a document of `limits.MAX_TOKENS` costs at most: longer ones are long by what they publish."""


class Document(NamedTuple):
    """A document that can be executed, or why it cannot."""

    document: DocumentNode | None
    errors: tuple[GraphQLError, ...] = ()


class _NoIntrospection(ValidationRule):
    def enter_field(self, node: FieldNode, *_: Any) -> None:
        """Report what asks for the schema; `__typename` is everybody's."""
        if node.name.value in ("__schema", "__type"):
            self.report_error(GraphQLError("introspection is for admins only on this broker", node))


def cost(text: str) -> int:
    """As how many requests a document counts when it is new: to validate it takes far longer than to answer most."""
    return min(1 + len(text) // _CHARS_A_REQUEST, _MOST_REQUESTS)


class Documents:
    """Owned by the event loop. What is new is parsed and validated in a thread: it takes up to 0.2 s.

    One at a time, since the thread keeps the interpreter from the loop; and in turn, so that nobody waits for more than
    one of each user's. Only who may `introspect` can ask for the schema, and gets suggestions of names.
    """

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._known: OrderedDict[tuple[str, bool], Document] = OrderedDict()
        self._turn = asyncio.Lock()
        self._turns_of: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def known(self, text: str, introspect: bool) -> Document | None:
        """A document that came lately."""
        found = self._known.get((text, introspect))
        if found is not None:
            self._known.move_to_end((text, introspect))
        return found

    async def learn(self, text: str, introspect: bool, username: str) -> Document:
        """A document that is new, which `username` wants to know of."""
        # The thread goes on where whoever asked has left, and so must keep its turn.
        return await asyncio.shield(self._learn(text, introspect, username))

    async def _learn(self, text: str, introspect: bool, username: str) -> Document:
        async with self._turns_of.setdefault(username, asyncio.Lock()), self._turn:
            if (found := self.known(text, introspect)) is not None:  # somebody has asked for the same meanwhile
                return found
            found = await asyncio.to_thread(_read, self._schema, text, introspect)
        if len(text) <= _LARGEST:
            self._known[text, introspect] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found


def _read(schema: GraphQLSchema, text: str, introspect: bool) -> Document:
    try:
        document = parse(text, max_tokens=MAX_TOKENS)
    except GraphQLSyntaxError as error:
        return Document(None, (error,))
    except RecursionError:
        return Document(None, (GraphQLError("the document nests too deep"),))
    if errors := too_much(document):
        return Document(None, tuple(errors))
    rules = specified_rules if introspect else (*specified_rules, _NoIntrospection)
    errors = validate(schema, document, rules, max_errors=_MOST_ERRORS, hide_suggestions=not introspect)
    return Document(None, tuple(errors)) if errors else Document(document)
