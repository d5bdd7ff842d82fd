"""What a document may hold, checked before it is validated; and what of it is counted.

Each fragment is looked at once, however often it is spread: fragments that spread each other twice would otherwise
double the work with each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
)

MAX_TOKENS = 1_000
MAX_DEPTH = 8
MAX_ALIASES = 15

Measure = Callable[[SelectionSetNode | None], int]


class _Fragments:
    """The fragments of a document, each measured once; one that holds itself counts nothing there."""

    def __init__(self, document: DocumentNode) -> None:
        self._sets = {
            node.name.value: node.selection_set
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._known: dict[str, int] = {}

    def measured(self, spread: FragmentSpreadNode, measure: Measure) -> int:
        name = spread.name.value
        if name not in self._known:
            self._known[name] = 0
            self._known[name] = measure(self._sets[name]) if name in self._sets else 0
        return self._known[name]


def too_much(document: DocumentNode) -> list[GraphQLError]:
    """Why the document is refused: its depth, its aliases. Introspection has a rule of its own."""
    deepest, aliases = _depth(document), _aliases(document)
    found = []
    if deepest > MAX_DEPTH:
        found.append(GraphQLError(f"the document nests {deepest} levels deep; at most {MAX_DEPTH} are taken"))
    if aliases > MAX_ALIASES:
        found.append(GraphQLError(f"the document has {aliases} aliases; at most {MAX_ALIASES} are taken"))
    return found


def _depth(document: DocumentNode) -> int:
    fragments = _Fragments(document)

    def of(selections: SelectionSetNode | None) -> int:
        return max((of_one(node) for node in selections.selections), default=0) if selections else 0

    def of_one(node: SelectionNode) -> int:
        match node:
            case FieldNode():
                return 0 if node.name.value.startswith("__") else 1 + of(node.selection_set)
            case InlineFragmentNode():
                return of(node.selection_set)
            case FragmentSpreadNode():
                return fragments.measured(node, of)
        return 0

    return max((of(node.selection_set) for node in _operations(document)), default=0)


def _aliases(document: DocumentNode) -> int:
    fragments = _Fragments(document)

    def of(selections: SelectionSetNode | None) -> int:
        return sum(of_one(node) for node in selections.selections) if selections else 0

    def of_one(node: SelectionNode) -> int:
        match node:
            case FieldNode():
                return (node.alias is not None) + of(node.selection_set)
            case InlineFragmentNode():
                return of(node.selection_set)
            case FragmentSpreadNode():
                return fragments.measured(node, of)
        return 0

    return sum(of(node.selection_set) for node in _operations(document))


def root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> list[str]:
    """The names of the fields that an operation begins with, one for each that is answered."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    found: dict[str, str] = {}
    seen = set[str]()
    waiting = [operation.selection_set]
    while waiting:
        for node in waiting.pop().selections:
            match node:
                case FieldNode():
                    found[(node.alias or node.name).value] = node.name.value
                case InlineFragmentNode():
                    waiting.append(node.selection_set)
                case FragmentSpreadNode() if node.name.value not in seen:
                    seen.add(node.name.value)
                    waiting.append(fragments[node.name.value].selection_set)
    return list(found.values())


def _operations(document: DocumentNode) -> Iterator[OperationDefinitionNode]:
    return (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
