"""The GraphQL schema, put together."""

from __future__ import annotations

import strawberry
from graphql import GraphQLSchema
from strawberry.schema.config import StrawberryConfig

from streambroker.transport.graphql.mutations import Mutation
from streambroker.transport.graphql.queries import Query
from streambroker.transport.graphql.scalars import SCALARS
from streambroker.transport.graphql.subscriptions import Subscription

_schema = strawberry.Schema(
    Query, mutation=Mutation, subscription=Subscription, config=StrawberryConfig(scalar_map=SCALARS)
)
SCHEMA: GraphQLSchema = _schema._schema
"""As graphql-core executes it; what strawberry adds to that (extensions, its own HTTP) is not used."""
SDL = _schema.as_str()
"""The same in GraphQL's schema language."""
