"""GraphQL: another way to ask for what REST does. Without the extra `graphql` only `absent` can be imported."""
