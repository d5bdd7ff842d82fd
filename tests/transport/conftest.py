"""Authentication with two users: the admin, and ann, a member."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streambroker.core.access import Role
from streambroker.transport.auth.service import AuthService
from tests.transport.auth_world import GRANTS, PASSWORD, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
async def auth(world: World) -> AuthService:
    auth = await world.begin()
    await auth.users.first_start("root's secret")
    await auth.users.add("ann", PASSWORD, Role.MEMBER, GRANTS)
    return auth
