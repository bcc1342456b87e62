"""A gateway with its neighbours, all in this process: `world` is one of them that a test starts as it likes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stubs.gateway import (
    LONG_TAIL,
    Gateway,
    StubController,
    StubModels,
    build_leave,
    build_snapshot,
    run_controller,
    run_gateway,
    run_models,
)
from stubs.postgres import database_of

from pilotage_core.stage import Stage


@dataclass
class World:
    """Models and controller that run for the whole test, and gateways started over one database."""

    folder: Path
    models: StubModels
    controller: StubController
    controller_url: str

    def publish(self, stage: Stage, **changes: Any) -> None:
        self.controller.publish(build_snapshot(build_leave(stage, self.models.url, **changes), LONG_TAIL))

    @asynccontextmanager
    async def gateway(self, *, permit: bool = True) -> AsyncIterator[Gateway]:
        async with run_gateway(database_of(self.folder), self.controller_url, self.folder / "keys") as gateway:
            if permit:
                await gateway.until_permit()
            yield gateway


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(run_models())
        controller = StubController(build_snapshot(build_leave(Stage.CALIBRATION, models.url), LONG_TAIL))
        controller.write_key(tmp_path / "keys")
        url = await stack.enter_async_context(run_controller(controller))
        yield World(tmp_path, models, controller, url)
