"""What one sees while the demo runs: a live table on a terminal, a line for each change elsewhere."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pilotage.demo.world import Scene
from pilotage.report.times import clock, to_seconds
from pilotage.status import need_in_short
from pilotage_core.stage import Stage

COLOURS = {
    Stage.LOGGING: "white on grey37",
    Stage.COPILOT: "black on steel_blue1",
    Stage.CALIBRATION: "black on gold1",
    Stage.AUTOMATION: "black on sea_green3",
}


class Timeline:
    """Shows scenes. Use as a context; `say` puts a line of its own above the table."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.time()
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> "Timeline":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, words: str) -> None:
        """One line, with the time elapsed."""
        self._console.print(
            Text.assemble((f"{clock(time.time() - self._began):>6}  ", "dim"), words), highlight=False, soft_wrap=True
        )

    def show(self, scene: Scene) -> None:
        """Show `scene`: flips as lines that stay, the rest in the table."""
        for item in scene.process_clusters:
            self._say_news(item)
        if scene.trouble and self._said.get("trouble") != scene.trouble:
            self.say(f"no answer: {scene.trouble}")
        self._said["trouble"] = scene.trouble
        if self._live is not None:
            self._live.update(Group(self._table(scene)))

    def _say_news(self, item: dict[str, Any]) -> None:
        """A line for each flip of the stage, and for each phase of the pipeline."""
        name, status = item["metadata"]["name"], item.get("status") or {}
        for flip in status.get("transitions") or ():
            known = f"{name} {flip['at']} {flip['stage']}"
            if known not in self._said:
                self._said[known] = known
                self.say(f"{name:<12} {flip['stage']:<12} {flip.get('reason', '')}")
        pipeline = status.get("pipeline") or {}
        phase = f"{pipeline.get('revision', '')} {pipeline.get('phase', '')} {pipeline.get('state', '')}"
        if pipeline and self._said.get(name) != phase:
            self._said[name] = phase
            if pipeline.get("state") in ("Running", "Failed"):
                self.say(f"{name:<12} {'':<12} {phase} {pipeline.get('reason', '')}".rstrip())

    def _table(self, scene: Scene) -> Table:
        elapsed = clock(time.time() - self._began)
        title = f"{elapsed}   {scene.live_sessions} sessions live, {scene.executed} actions ran with nobody asked"
        table = Table(title=title, title_justify="left", expand=False, box=None, padding=(0, 2, 0, 0))
        for column in ("process cluster", "stage", "for", "sessions", "doing", "next stage needs"):
            table.add_column(column, header_style="dim", no_wrap=column != "next stage needs")
        for item in scene.process_clusters:
            table.add_row(*_cells(item, scene))
        if scene.trouble:
            table.caption = scene.trouble
        return table


def _cells(item: dict[str, Any], scene: Scene) -> list[Text]:
    status = item.get("status") or {}
    stage = Stage(status.get("stage") or Stage.LOGGING)
    key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
    pipeline = status.get("pipeline") or {}
    since = to_seconds(status.get("stageSince") or "")
    unmet = status.get("unmet") or []
    needs = ", ".join(need_in_short(one) for one in unmet[:2])
    return [
        Text(item["metadata"]["name"]),
        Text(f" {stage:<11}", COLOURS[stage]),
        Text(clock(time.time() - since) if since else ""),
        Text(str(scene.sessions.get(key, 0))),
        Text(f"{pipeline.get('revision', '')} {pipeline.get('phase', '')}".strip()),
        Text(needs, "dim"),
    ]
