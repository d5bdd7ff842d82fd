"""D30: what a document may hold, and that looking at it costs no more than it is long."""

from __future__ import annotations

import asyncio

import pytest
from graphql import OperationDefinitionNode, get_introspection_query, parse

from streambroker.transport.graphql.documents import Documents, cost
from streambroker.transport.graphql.limits import MAX_ALIASES, MAX_DEPTH, root_fields, too_much
from streambroker.transport.graphql.schema import SCHEMA


async def errors_of(text: str, introspect: bool = False) -> list[str]:
    return [error.message for error in (await Documents(SCHEMA).learn(text, introspect, "ann")).errors]


async def test_d30_a_document_that_nests_too_deep_is_refused() -> None:
    deepest = "{" + "a{" * 19 + "b" + "}" * 19 + "}"
    assert await errors_of(deepest) == [f"the document nests 20 levels deep; at most {MAX_DEPTH} are taken"]


async def test_d30_a_document_with_too_many_aliases_is_refused() -> None:
    aliases = " ".join(f"a{number}: stats {{ pending }}" for number in range(100))
    assert await errors_of(f"{{{aliases}}}") == [f"the document has 100 aliases; at most {MAX_ALIASES} are taken"]
    some = " ".join(f"a{number}: stats {{ pending }}" for number in range(MAX_ALIASES))
    assert await errors_of(f"{{{some}}}") == []


async def test_d30_aliases_in_fragments_count_wherever_they_are_spread() -> None:
    text = "{ stats { ...F } } fragment F on StatsGQL { a: pending b: pending }"
    assert await errors_of(text) == []
    spread = "query A { stats { ...F } } " * 8 + "fragment F on StatsGQL { a: pending b: pending }"
    assert await errors_of(spread) == [f"the document has 16 aliases; at most {MAX_ALIASES} are taken"]


async def test_d30_a_document_of_too_many_tokens_is_refused() -> None:
    (error,) = await errors_of("{" + "__typename " * 5_000 + "}")
    assert "token" in error


async def test_introspection_is_for_who_may() -> None:
    text = get_introspection_query()
    assert await errors_of(text, introspect=True) == []
    assert await errors_of(text) == ["introspection is for admins only on this broker"]
    assert await errors_of('{ __type(name: "QueueGQL") { name } }') != []
    assert await errors_of("{ __typename }") == []


async def test_names_are_suggested_only_to_who_may_introspect() -> None:
    assert "Did you mean" in (await errors_of("{ queuez { nextCursor } }", introspect=True))[0]
    assert "Did you mean" not in (await errors_of("{ queuez { nextCursor } }"))[0]


async def test_introspection_that_goes_in_circles_is_refused_to_everybody() -> None:
    around = "fields { type { " * 8
    text = f"{{ __schema {{ types {{ {around} name {'} } ' * 8} }} }} }}"
    assert await errors_of(text, introspect=True)


@pytest.mark.parametrize("inner", ["...F{next} ...F{next}", 'queue(name: "a") {{ ...F{next} }} ...F{next}'])
async def test_fragments_that_double_each_other_are_looked_at_once(inner: str) -> None:
    """Two hundred of them would be 2^200 looks: the test would never end."""
    count = 100
    fragments = [f"fragment F{n} on Query {{ {inner.format(next=n + 1)} }}" for n in range(count)]
    text = f"{{ ...F0 }} {' '.join(fragments)} fragment F{count} on Query {{ a: stats {{ pending }} }}"
    document = parse(text)
    assert too_much(document)
    (operation,) = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    assert set(root_fields(document, operation)) <= {"stats", "queue"}


async def test_fragments_in_a_circle_are_refused() -> None:
    assert await errors_of("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }")


async def test_a_spread_of_no_fragment_is_refused() -> None:
    assert await errors_of("{ ...Nowhere }")


async def test_a_document_is_remembered_for_each_kind_of_reader() -> None:
    documents = Documents(SCHEMA)
    assert documents.known("{ __schema { description } }", True) is None
    await documents.learn("{ __schema { description } }", True, "ann")
    assert documents.known("{ __schema { description } }", True) is not None
    assert documents.known("{ __schema { description } }", False) is None


async def test_only_so_many_documents_are_remembered() -> None:
    documents = Documents(SCHEMA)
    for number in range(300):
        await documents.learn(f"{{ a{number}: __typename }}", False, "ann")
    assert documents.known("{ a299: __typename }", False) is not None
    assert documents.known("{ a0: __typename }", False) is None
    large = "{ __typename } #" + "x" * 100_000
    await documents.learn(large, False, "ann")
    assert documents.known(large, False) is None


def test_a_field_counts_once_for_each_answer() -> None:
    document = parse(
        "{ stats { pending } stats { failed } b: stats { pending } ...F } "
        "fragment F on Query { ...on Query { queues { nextCursor } } }"
    )
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    assert sorted(root_fields(document, operation)) == ["queues", "stats", "stats"]


async def test_d30_documents_are_validated_one_at_a_time_and_each_user_waits_for_its_own() -> None:
    """Each takes the interpreter from the loop: a member that asks twenty at once must not hold up everybody."""
    documents, done = Documents(SCHEMA), list[str]()

    async def learn(username: str, number: int) -> None:
        await documents.learn(f"{{ n{number}: __typename }}", False, username)
        done.append(username)

    await asyncio.gather(*(learn("mallory", number) for number in range(20)), learn("ann", 20))
    assert done.index("ann") <= 2


async def test_a_document_that_two_ask_for_at_once_is_read_once() -> None:
    documents, text = Documents(SCHEMA), "{ stats { pending } }"
    first, second = await asyncio.gather(documents.learn(text, False, "ann"), documents.learn(text, False, "ben"))
    assert first is second


def test_d30_a_new_document_counts_by_its_length_up_to_a_bound() -> None:
    """What is long to validate has a thousand words; beyond that a document is long by what it publishes."""
    assert cost("{ stats { pending } }") == 1
    assert cost("{" + "queues { nextCursor } " * 200 + "}") >= 15
    assert cost("x" * 1_000_000) == 20
